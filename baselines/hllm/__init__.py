"""HLLM in five files: model, item encoders, language models by name, settings, and what a step costs."""
