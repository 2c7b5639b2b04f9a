"""Torch: real models, surgery, adapters, training. Nothing else in fedcore imports this layer."""

import logging

# When peft imports bitsandbytes, that looks for optional kernels, and warns at every start where there are none.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
