"""Registers experiments, tasks and costs; the only import for side effects."""

from modelgarden_opt.benchmark import cost  # noqa: F401
from modelgarden_opt.configs import experiments  # noqa: F401
from modelgarden_opt.tasks import image_classification  # noqa: F401
from modelgarden_opt.tasks import semantic_segmentation  # noqa: F401
