"""How hypothesis runs here: without a clock, because a busy machine is no defect of the code. With
`HYPOTHESIS_PROFILE=long` it takes twenty times as many examples."""

import os

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.register_profile("long", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))
