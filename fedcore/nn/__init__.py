"""Torch: real models, surgery, adapters, training. Nothing else in fedcore imports this layer."""
