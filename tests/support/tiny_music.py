"""A tiny MusicGen made on the spot, with a codec of 50 frames a second; import it only where torch loads.

Weights are random from a fixed seed, so the music is noise that depends on the prompt.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.support.tiny_models import Size, write_tokenizer

RATE = 32_000
FRAME_SAMPLES = 640
PROMPT_TOKENS = 64
_WORDS = 64
_CODES = 64
_CODEBOOKS = 4
_WIDTH = 16
_TINY = Size(width=_WIDTH, inner=32)


def write_composer(folder: Path, *, channels: int = 1, size: Size = _TINY) -> Path:
    """As a repository holds it: of one channel, or of two, which have twice as many codebooks.

    `size` is that of what computes step by step; what reads the prompt and what makes sound stay tiny.
    """
    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder, length=PROMPT_TOKENS)
    text = transformers.T5Config(
        vocab_size=max(len(tokenizer), _WORDS),
        d_model=_WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    audio = transformers.EncodecConfig(
        target_bandwidths=[_CODEBOOKS * 6 * 50 / 1000],
        sampling_rate=RATE,
        audio_channels=1,
        num_filters=4,
        hidden_size=_WIDTH,
        codebook_size=_CODES,
        codebook_dim=_WIDTH,
        upsampling_ratios=[8, 5, 4, 4],
        num_lstm_layers=1,
        norm_type="weight_norm",
        use_causal_conv=False,
    )
    decoder = transformers.MusicgenDecoderConfig(
        vocab_size=_CODES,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        ffn_dim=size.inner,
        num_codebooks=_CODEBOOKS * channels,
        audio_channels=channels,
        pad_token_id=_CODES,
        bos_token_id=_CODES,
        max_position_embeddings=2048,
    )
    config = transformers.MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder.to_dict()
    )
    model = transformers.MusicgenForConditionalGeneration(config)
    with torch.no_grad():  # else all prompts and steps sound alike
        for parameter in (*model.decoder.model.parameters(), *model.text_encoder.parameters()):
            parameter.mul_(20)
        for name, parameter in model.audio_encoder.decoder.named_parameters():
            if "bias" in name:
                parameter.zero_()
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_(std=3)
        model.audio_encoder.decoder.layers[-1].conv.parametrizations.weight.original0.mul_(30)
    said = {"decoder_start_token_id": _CODES, "pad_token_id": _CODES, "bos_token_id": _CODES}
    model.generation_config.update(**said, guidance_scale=3.0, do_sample=True, max_length=1500)
    model.save_pretrained(folder)
    return folder


def pickle_weights(folder: Path) -> Path:
    """As MusicGen's medium and large are published: no safetensors, only what torch pickles."""
    safe = folder / "model.safetensors"
    torch.save(load_file(safe), folder / "pytorch_model.bin")
    safe.unlink()
    return folder


RANK, ALPHA = 2, 8
ADAPTED = (
    "model.decoder.layers.0.self_attn.q_proj",
    "model.decoder.layers.1.encoder_attn.v_proj",
    "lm_heads.0",
)


def write_adapter(
    folder: Path, *, width: int = _WIDTH, base: str = "facebook/musicgen-small", **told: Any
) -> Path:
    """As peft saves one of a model's decoder; `told` goes into its configuration."""
    torch.manual_seed(1)
    folder.mkdir()
    weights = {}
    for layer in ADAPTED:
        outputs = _CODES if layer.startswith("lm_heads") else width
        weights[f"base_model.model.decoder.{layer}.lora_A.weight"] = torch.randn(RANK, width)
        weights[f"base_model.model.decoder.{layer}.lora_B.weight"] = torch.randn(outputs, RANK)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "bias": "none",
        "base_model_name_or_path": base,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | told))
    return folder
