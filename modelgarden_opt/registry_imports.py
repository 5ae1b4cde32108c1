"""Registers experiments, tasks, backbones and costs.

The only module that is imported for its side effects.
"""

from modelgarden_opt.benchmark import cost  # noqa: F401
from modelgarden_opt.configs import experiments  # noqa: F401
from modelgarden_opt.modeling.backbones import relu_mobilenets  # noqa: F401
from modelgarden_opt.modeling.backbones import small_cnn  # noqa: F401
from modelgarden_opt.tasks import image_classification  # noqa: F401
from modelgarden_opt.tasks import semantic_segmentation  # noqa: F401
