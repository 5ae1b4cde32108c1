"""Registers every experiment and task; the only import for side effects."""

# pylint: disable=unused-import
from modelgarden_opt.configs import image_classification as _  # noqa: F401
from modelgarden_opt.tasks import image_classification as _  # noqa: F401, F811
