"""Accuracy of Keras models and of .tflite files."""
