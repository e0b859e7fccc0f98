"""The child process that computes, and the running of one; knows neither Qt nor the plugin."""
