"""Object detection: boxes, anchors, two detectors and how they are measured. Built on PyTorch."""
