"""Tiny models of NeMo that have learnt some recordings word for word, saved as `.nemo` files.

The one of Canary's kind has learnt what to write for each prompt: in English what was said, with the times of
words or without; of German speech, in German what was said, in English its words in reverse.

Import it only in a process that serves them or loads them: NeMo takes half a minute of a processor. CTC is
learnt as it always is; what RNNT and TDT do at each place is learnt from where CTC heard each token, which
needs none of their losses and takes seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import sentencepiece
import torch
from nemo.collections.asr import models
from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer
from omegaconf import OmegaConf
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

FEATURES, WIDTH, HIDDEN = 80, 32, 24
DURATIONS: Final = (0, 1, 2, 3, 4)
TRANSFORMER: Final = "nemo.collections.asr.modules.transformer"
MOST_FRAMES: Final = 60
"""Of the longest recording, with room to spare: a frame is 80 ms."""
ORDERS: Final = (("en", "en", "no"), ("en", "en", "yes"), ("de", "de", "no"), ("de", "en", "no"))
"""Source, target, and whether with times."""
LATENCIES: Final = ((70, 6), (70, 1))
"""Frames that a streaming model looks back and ahead: 0.56 s and 0.16 s of sound."""


@dataclass(frozen=True)
class Lesson:
    """What the models learn: samples (16-bit, 16 kHz), and the words that they are to hear."""

    samples: bytes
    words: str


def make_models(folder: Path, lessons: Sequence[Lesson], of_canary: Sequence[Lesson]) -> None:
    """Directories `ctc`, `tdt`, `rnnt` (which streams) and `canary`, each with its file.

    `of_canary` are some of the lessons: it takes longest, since it learns each for several prompts.

    `hybrid` and `hybrid-live` are `tdt` and `rnnt` with a decoder by CTC beside, which has learnt nothing.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so that the same comes out each time
    tokens = _tokenizer(folder / "tokens", sorted({lesson.words for lesson in lessons}))
    ctc = _learnt(models.EncDecCTCModelBPE(cfg=_config(tokens, stream=False, head=_ctc())), lessons)
    _save(ctc, folder / "ctc")
    tdt = models.EncDecRNNTBPEModel(cfg=_config(tokens, stream=False, head=_transducer(tdt=True)))
    tdt.encoder.load_state_dict(ctc.encoder.state_dict())
    _save(_taught(tdt, lessons, DURATIONS), folder / "tdt")
    both = _config(tokens, stream=False, head=_transducer(tdt=True) | _aside())
    _save(_hybrid(tdt, both), folder / "hybrid")
    rnnt = models.EncDecRNNTBPEModel(cfg=_config(tokens, stream=True, head=_transducer(tdt=False)))
    _level(rnnt.encoder.pre_encode.conv[0])
    _save(_taught(rnnt, lessons, (0, 1)), folder / "rnnt")
    both = _config(tokens, stream=True, head=_transducer(tdt=False) | _aside())
    _save(_hybrid(rnnt, both), folder / "hybrid-live")
    canary = models.EncDecMultiTaskModel(cfg=_canary(tokens, folder / "special"))
    canary.encoder.load_state_dict(ctc.encoder.state_dict())
    _save(_told(canary, of_canary), folder / "canary")


def write_listener(folder: Path) -> None:
    """A CTC model as large as parakeet's of 110 million weights; they are random, and so is what it hears."""
    torch.manual_seed(0)
    tokens = _tokenizer(folder / "tokens", ["what is heard is chance, and says nothing of anything at all"])
    config = _config(tokens, stream=False, head=_ctc())
    config.encoder.update({"n_layers": 17, "d_model": 512, "n_heads": 8, "ff_expansion_factor": 4})
    config.encoder.update({"subsampling_conv_channels": 256})
    model = models.EncDecCTCModelBPE(cfg=config).eval()
    model.save_to(str(folder / "listener.nemo"))


def _tokenizer(folder: Path, sentences: Sequence[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "said.txt").write_text("\n".join([*sentences] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "said.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=48,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    names = [pieces.id_to_piece(at) for at in range(1, pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    return folder


def _config(tokens: Path, *, stream: bool, head: Mapping[str, Any]) -> Any:
    modules = "nemo.collections.asr.modules."
    sound = {
        "_target_": f"{modules}AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16_000,
        "normalize": "NA" if stream else "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": FEATURES,
        "n_fft": 512,
        "dither": 0.0,
        "pad_to": 0,
    }
    encoder = {
        "_target_": f"{modules}ConformerEncoder",
        "feat_in": FEATURES,
        "feat_out": -1,
        "n_layers": 2,
        "d_model": WIDTH,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 16,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": [-1, -1],
        "xscaling": False,
        "pos_emb_max_len": 1000,
        "conv_kernel_size": 9,
        "conv_norm_type": "layer_norm",
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
        "dropout_emb": 0.0,
        "dropout_att": 0.0,
    }
    if stream:
        encoder |= {
            "att_context_size": [list(each) for each in LATENCIES],
            "att_context_style": "chunked_limited",
            "causal_downsampling": True,
            "conv_context_size": "causal",
        }
    common = {"sample_rate": 16_000, "train_ds": None, "validation_ds": None, "test_ds": None}
    tokenizer = {"dir": str(tokens), "type": "bpe"}
    said = {"tokenizer": tokenizer, "preprocessor": sound, "encoder": encoder, "log_prediction": False}
    return OmegaConf.create({**common, **said, **head})


def _ctc() -> dict[str, Any]:
    decoder: dict[str, Any] = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": None,
        "num_classes": -1,
        "vocabulary": [],
    }
    return {"decoder": decoder, "decoding": {"strategy": "greedy_batch"}}


def _aside() -> dict[str, Any]:
    """A second decoder's place in a hybrid's configuration."""
    return {"aux_ctc": {**_ctc(), "ctc_loss_weight": 0.3}}


def _transducer(*, tdt: bool) -> dict[str, Any]:
    modules = "nemo.collections.asr.modules."
    decoder: dict[str, Any] = {
        "_target_": f"{modules}RNNTDecoder",
        "normalization_mode": None,
        "random_state_sampling": False,
        "blank_as_pad": True,
        "prednet": {"pred_hidden": HIDDEN, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.0},
    }
    joint = {
        "_target_": f"{modules}RNNTJoint",
        "log_softmax": None,
        "preserve_memory": False,
        "fuse_loss_wer": False,
        "fused_batch_size": 4,
        "jointnet": {"joint_hidden": HIDDEN, "activation": "relu", "dropout": 0.0},
    }
    decoding: dict[str, Any] = {"strategy": "greedy_batch", "greedy": {"max_symbols": 5}}
    defaults: dict[str, Any] = {"enc_hidden": WIDTH, "pred_hidden": HIDDEN, "joint_hidden": HIDDEN}
    loss: dict[str, Any] = {"loss_name": "default"}
    if tdt:
        durations = list(DURATIONS)
        joint["num_extra_outputs"] = len(durations)
        decoding |= {"model_type": "tdt", "durations": durations}
        defaults |= {"tdt_durations": durations, "num_tdt_durations": len(durations)}
        loss = {"loss_name": "tdt", "tdt_kwargs": {"durations": durations, "sigma": 0.02, "omega": 0.1}}
    return {
        "model_defaults": defaults,
        "decoder": decoder,
        "joint": joint,
        "decoding": decoding,
        "loss": loss,
        "compute_eval_loss": False,
        "skip_nan_grad": False,
    }


def _canary(tokens: Path, special: Path) -> Any:
    """As NeMo's examples make it, with the second kind of prompt."""
    told = ["startofcontext", "emo:undefined", "en", "de", "itn", "noitn", "timestamp", "notimestamp"]
    told += ["diarize", "nodiarize", *map(str, range(MOST_FRAMES))]
    CanaryTokenizer.build_special_tokenizer(told, special)
    common = OmegaConf.to_container(_config(tokens, stream=False, head={}))
    assert isinstance(common, dict)
    tokenizers = {"spl_tokens": special, "en": tokens, "de": tokens}
    common["tokenizer"] = {
        "dir": None,
        "type": "agg",
        "langs": {name: {"dir": str(each), "type": "bpe"} for name, each in tokenizers.items()},
        "custom_tokenizer": {
            "_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer",
            "tokenizers": None,
        },
    }
    decoder = {
        "max_sequence_length": 256,
        "num_token_types": 0,
        "learn_positional_encodings": False,
        "hidden_size": WIDTH,
        "inner_size": 2 * WIDTH,
        "num_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "relu",
        "pre_ln": True,
        "vocab_size": None,
    }
    return OmegaConf.create(
        {
            **common,
            "prompt_format": "canary2",
            "model_defaults": {"asr_enc_hidden": WIDTH, "lm_enc_hidden": WIDTH, "lm_dec_hidden": WIDTH},
            "transf_encoder": {
                "_target_": f"{TRANSFORMER}.transformer_encoders.TransformerEncoder",
                "num_layers": 0,
                "hidden_size": WIDTH,
                "inner_size": WIDTH,
            },
            "transf_decoder": {
                "_target_": f"{TRANSFORMER}.get_nemo_transformer",
                "model_name": None,
                "pretrained": False,
                "encoder": None,
                "pre_ln_final_layer_norm": True,
                "config_dict": decoder,
            },
            "head": {
                "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
                "num_layers": 1,
                "activation": "relu",
                "log_softmax": True,
                "hidden_size": WIDTH,
                "num_classes": None,
                "dropout": 0.0,
                "use_transformer_init": True,
            },
            "decoding": {"strategy": "beam", "beam": {"beam_size": 1, "max_generation_delta": 50}},
            "loss": {
                "_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss",
                "label_smoothing": 0.0,
                "pad_id": None,
            },
        }
    )


def _signals(lessons: Sequence[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
    sounds = [
        torch.from_numpy(np.frombuffer(lesson.samples, "<i2").astype(np.float32) / 32768)
        for lesson in lessons
    ]
    return pad_sequence(sounds, batch_first=True), torch.tensor([len(sound) for sound in sounds])


def _optimise(parameters: Any, loss: Callable[[], torch.Tensor], *, enough: float, most: int) -> None:
    parameters = list(parameters)
    optimiser = torch.optim.AdamW(parameters, lr=4e-3)
    for _ in range(most):
        value = loss()
        if value.item() < enough:
            return
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    raise AssertionError(f"nothing was learnt in {most} steps: the loss is {value.item():.3f}")


def _level(first: Any) -> None:
    """Make the encoder's first layer expect loudness as it is, about -8 ± 4: no stream can be levelled."""
    with torch.no_grad():
        first.bias += 2 * first.weight.sum((1, 2, 3))
        first.weight /= 4


def _learnt(model: Any, lessons: Sequence[Lesson]) -> Any:
    signal, lengths = _signals(lessons)
    said = [torch.tensor(model.tokenizer.text_to_ids(lesson.words)) for lesson in lessons]
    targets, counts = pad_sequence(said, batch_first=True), torch.tensor([len(each) for each in said])

    def loss() -> torch.Tensor:
        found, frames, _ = model(input_signal=signal, input_signal_length=lengths)
        value: torch.Tensor = model.loss(
            log_probs=found, targets=targets, input_lengths=frames, target_lengths=counts
        )
        return value

    model.train()
    _optimise(model.parameters(), loss, enough=0.02, most=400)
    return model.eval()


def _taught(model: Any, lessons: Sequence[Lesson], durations: Sequence[int]) -> Any:
    """The right answer at each place (frame, tokens so far) that greedy decoding comes by."""
    signal, lengths = _signals(lessons)
    said = [torch.tensor(model.tokenizer.text_to_ids(lesson.words)) for lesson in lessons]
    targets, counts = pad_sequence(said, batch_first=True), torch.tensor([len(each) for each in said])
    blank = model.decoder.blank_idx
    frames = model(input_signal=signal, input_signal_length=lengths)[1].tolist()
    places = [
        (at, *place)
        for at, tokens in enumerate(said)
        for place in _path(tokens.tolist(), frames[at], blank, durations)
    ]
    row, frame, before, token, duration = (torch.tensor(column) for column in zip(*places, strict=True))

    def loss() -> torch.Tensor:
        encoded, _ = model(input_signal=signal, input_signal_length=lengths)
        predicted, *_ = model.decoder(targets=targets, target_length=counts)
        hidden = model.joint.project_encoder(encoded.transpose(1, 2))[row, frame]
        hidden = hidden + model.joint.project_prednet(predicted.transpose(1, 2))[row, before]
        logits = model.joint.joint_net(hidden)
        value = cross_entropy(logits[:, : blank + 1], token)
        if logits.shape[1] > blank + 1:
            value = value + cross_entropy(logits[:, blank + 1 :], duration)
        return value

    model.train()
    _optimise(model.parameters(), loss, enough=0.02, most=400)
    return model.eval()


def _hybrid(transducer: Any, config: Any) -> Any:
    model = models.EncDecHybridRNNTCTCBPEModel(cfg=config)
    own = {name: value for name, value in model.state_dict().items() if name.startswith("ctc_decoder.")}
    model.load_state_dict({**transducer.state_dict(), **own})
    return model.eval()


def _path(
    tokens: Sequence[int], frames: int, blank: int, durations: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Frame, tokens before, token and duration of each decision; tokens come evenly once enough is heard."""
    first, last = frames * 0.3, frames * 0.9
    due = [round(first + (last - first) * at / len(tokens)) for at in range(len(tokens))]
    path, frame, before = [], 0, 0
    while frame < frames:
        if before < len(tokens) and due[before] <= frame:
            following = due[before + 1] if before + 1 < len(tokens) else frames
            step = min(following - frame, durations[-1]) if len(durations) > 2 else 0
            path.append((frame, before, tokens[before], step))
            before += 1
        else:
            ahead = due[before] - frame if before < len(tokens) else frames - frame
            step = min(ahead, durations[-1])
            path.append((frame, before, blank, step))
        frame += step
    return path


def _told(model: Any, lessons: Sequence[Lesson]) -> Any:
    """What to write for each lesson and each prompt, token by token."""
    signal, lengths = _signals(lessons)
    orders = [(at, *order) for at in range(len(lessons)) for order in ORDERS]
    frames = model(input_signal=signal, input_signal_length=lengths)[1].tolist()
    rows = [_written(model, lessons[at].words, frames[at], order) for at, *order in orders]
    written = pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True, padding_value=-1)
    counts = torch.tensor([len(row) for row, _ in rows])
    wanted = written[:, 1:].clone()
    for row, (_, prompt) in zip(wanted, rows, strict=True):
        row[: prompt - 1] = -1  # what it is told it need not learn
    heard = torch.tensor([at for at, *_ in orders])

    def loss() -> torch.Tensor:
        found, *_ = model(
            input_signal=signal[heard],
            input_signal_length=lengths[heard],
            transcript=written[:, :-1].clamp(min=0),
            transcript_length=counts - 1,
        )
        return cross_entropy(found.flatten(0, 1), wanted.flatten(), ignore_index=-1)

    model.train()
    _optimise(model.parameters(), loss, enough=0.02, most=600)
    return model.eval()


def _written(model: Any, words: str, frames: int, order: Sequence[str]) -> tuple[list[int], int]:
    """All tokens of an answer, and how many of them are its prompt."""
    source, target, times = order
    slots = {"source_lang": source, "target_lang": target, "timestamp": times, "pnc": "yes", "itn": "no"}
    slots |= {"diarize": "no", "emotion": "<|emo:undefined|>", "decodercontext": ""}
    prompt = model.prompt.encode_dialog(turns=[{"role": "user", "slots": slots}])["context_ids"].tolist()
    said = words.split() if source == target else words.split()[::-1]
    text = " ".join(said)
    if times == "yes":
        step = frames / len(said)
        text = " ".join(  # blanks part words, the tokens of times are taken out before
            f"<|{round(at * step)}|>{word}<|{round((at + 1) * step)}|>" for at, word in enumerate(said)
        )
    answer = model.tokenizer.text_to_ids(text + "<|endoftext|>", target)
    return prompt + answer, len(prompt)


def _save(model: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    model.save_to(str(folder / "tiny.nemo"))
