"""The engine `tensorflow`: Keras on TensorFlow."""
