"""GGUF models by llama.cpp as a Roundhouse engine."""
