"""What a `.tflite` file costs where it will run, without the device.

One module a tool: `instructions`, `ethos_u`, `tflm`, `android`. Devices are in
`devices`, and what their delegates refuse in `lint_rules`, both as data.
"""
