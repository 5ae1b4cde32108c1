"""DeepLabV3 with QAT: time, latency and mIoU beside the published figures."""
