"""A picture that a network gives the highest score for a class, made from noise.

Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (2014); blur after Yosinski et al.,
"Understanding neural networks through deep visualization" (2015); jitter and octaves after Mordvintsev, Olah and Tyka,
"Inceptionism" (2015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.progress import progress
from common.validate import Stream, checked_count, checked_reg, stream
from common.vision.adversarial import checked_target
from common.vision.gradients import Direction, Scores, device_of, frozen, score_gradient, valid_range
from common.vision.images import blur_image, checked_picture, jitter, octave_sizes, resize

Show = Callable[[Tensor, int], None]  # the picture so far, and the number of steps


def class_visualization_step(
    img: Tensor,
    target_y: int,
    model: Scores,
    l2_reg: float = 1e-3,
    learning_rate: float = 25,
    *,
    direction: Direction | None = None,
) -> Tensor:
    """One step of gradient ascent on s_y(I) - l2_reg * ||I||^2, in place.

    Args:
        img: (1, 3, H, W) normalised picture; changed in place, its `grad` is not used.
        target_y: the class y.
        model: pictures -> scores (1, C).
        l2_reg: strength of the L2 term.
        learning_rate: the step is learning_rate times the gradient.
        direction: what makes a step of the score's gradient, such as `natural`; None = the gradient itself.
    Returns:
        img.
    Raises:
        TypeError, ValueError: img is not one picture, target_y no class, l2_reg negative.
    """
    checked_picture(img, "img", one=True)
    checked_reg(l2_reg)
    target = torch.tensor([checked_count("target_y", target_y, least=0)])
    direction = direction or (lambda gradient: gradient)
    with torch.no_grad():
        ### BEGIN SOLUTION network_visualization, 9
        dX = direction(score_gradient(img, target, model))
        img += learning_rate * (dX - 2 * l2_reg * img)
        ### END SOLUTION
    return img


def create_class_visualization(
    target_y: int,
    model: Scores,
    dtype: Any = torch.float32,
    *,
    l2_reg: float = 1e-3,
    learning_rate: float = 25,
    num_iterations: int = 100,
    blur_every: int = 10,
    blur_sigma: float = 0.5,
    max_jitter: int = 16,
    show_every: int = 25,
    show: Show | None = None,
    size: int = 224,
    octaves: int = 1,
    octave_scale: float = 1.4,
    start: Tensor | None = None,
    direction: Direction | None = None,
    rng: Stream = None,
) -> Tensor:
    """Gradient ascent on the score of a class from random noise, with jitter, blur and octaves.

    Args:
        target_y: the class.
        model: pictures -> scores (1, C); a Backbone also knows its valid range.
        dtype: of the picture.
        l2_reg, learning_rate, direction: as in `class_visualization_step`.
        num_iterations: steps in each octave.
        blur_every, blur_sigma: smooth the picture after so many steps; 0 = never.
        max_jitter: each step is taken on a picture shifted by up to so many pixels, which is then shifted back.
        show_every, show: call show(picture, steps so far) after so many steps; 0 or None = never.
        size: height and width of the result.
        octaves, octave_scale: begin small and enlarge by this factor, so many sizes in all.
        start: (1, 3, H, W) to begin with; None = normal noise. Not changed.
        rng: of noise and jitter, a RandomState or a seed.
    Returns:
        (1, 3, size, size), within the valid range of a normalised picture.
    Raises:
        TypeError, ValueError: a size, count or class that is not allowed.
    """
    for name, value in {"num_iterations": num_iterations, "blur_every": blur_every, "max_jitter": max_jitter}.items():
        checked_count(name, value, least=0)
    checked_count("show_every", show_every, least=0)
    sizes, rng = octave_sizes((size, size), octaves, octave_scale), stream(rng)
    img = torch.from_numpy(rng.standard_normal((1, 3, *sizes[0]))) if start is None else resize(start, sizes[0])
    img = img.detach().clone().type(dtype).to(device_of(model))
    lower, upper = valid_range(model, img)
    steps = progress(total=num_iterations * len(sizes), desc="class visualisation")
    with frozen(model), torch.no_grad(), steps:
        checked_target(target_y, model(img))
        for here in sizes:
            img = resize(img, here)
            for t in range(num_iterations):
                ox, oy = rng.randint(-max_jitter, max_jitter + 1, 2)
                ### BEGIN SOLUTION network_visualization, 10
                img = jitter(img, ox, oy)
                class_visualization_step(img, target_y, model, l2_reg, learning_rate, direction=direction)
                img = jitter(img, -ox, -oy)
                img = img.clamp(lower, upper)
                if blur_every and t % blur_every == 0:
                    blur_image(img, blur_sigma)
                ### END SOLUTION
                steps.update()
                if show is not None and show_every and (t + 1) % show_every == 0:
                    show(img, t + 1)
    return img
