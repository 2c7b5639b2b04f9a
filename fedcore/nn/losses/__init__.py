"""The losses that tasks name: functions of outputs and targets. How they are minimised is training's part."""
