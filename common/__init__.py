"""The code that the notebooks of the Vision Workbook teach and use."""
