"""Conversion to TFLite and verification of the file.

Called, it is the function `api.exporting.export`.
"""

from modelgarden_opt import callable_module

callable_module.make(__name__, 'modelgarden_opt.api.exporting:export')
