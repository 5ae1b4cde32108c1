"""Latency and size of .tflite files.

Called, it is the function `api.measuring.benchmark`.
"""

from modelgarden_opt import callable_module

callable_module.make(__name__, 'modelgarden_opt.api.measuring:benchmark')
