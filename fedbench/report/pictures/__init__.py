"""Pictures of what a method worked with: sheets of images, crops on a picture, maps of features.

Figures (``fedbench.report.figures``) show numbers of many records; a picture shows tensors of one.
All of it is drawn from NumPy arrays, in the style of the figures, and comes out the same each time.
"""
