"""Whisper by faster-whisper and CTranslate2 as a Roundhouse engine."""
