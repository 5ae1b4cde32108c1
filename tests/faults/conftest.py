"""Profiles of hypothesis: a sample of seconds, and the long form.

The sample takes the same examples every time; `FAULTS=long`, as `make faults`
sets it, draws others, and prints how to repeat one that fails.
"""

import os

import hypothesis

_SLOW = (hypothesis.HealthCheck.too_slow,
         hypothesis.HealthCheck.function_scoped_fixture)

hypothesis.settings.register_profile(
    'sample', derandomize=True, max_examples=60, deadline=None, database=None,
    suppress_health_check=_SLOW)
hypothesis.settings.register_profile(
    'long', derandomize=False, max_examples=500, deadline=None, database=None,
    print_blob=True, suppress_health_check=_SLOW)
hypothesis.settings.load_profile(os.environ.get('FAULTS', 'sample'))
