"""What is known of a kernel before a technique decides on it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel of a model.

  Attributes:
    path: Path of its layer.
    layer_type: Class name of the float layer.
    shape: Its shape.
    strides: Strides of a convolution, empty for other layers.
  """
  path: str
  layer_type: str
  shape: tuple[int, ...]
  strides: tuple[int, ...] = ()

  @property
  def is_matrix(self) -> bool:
    """Whether a matrix product for every pixel is all that it computes.

    So do dense layers, and convolutions of 1x1 pixels with stride 1.
    """
    return self.layer_type == 'Dense' or (
        self.layer_type == 'Conv2D' and self.shape[:2] == (1, 1) and
        all(stride == 1 for stride in self.strides))
