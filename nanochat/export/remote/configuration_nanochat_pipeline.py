"""The shape of a model made with nanochat-pipeline, for transformers (``trust_remote_code=True``)."""

from transformers import PreTrainedConfig


class NanoChatPipelineConfig(PreTrainedConfig):
    """The fields are those of nanochat-pipeline's ModelConfig; transformers' own names work, too."""

    model_type = "nanochat-pipeline"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "max_position_embeddings": "seq_len",
    }

    def __init__(
        self,
        depth=4,
        width=256,
        num_heads=2,
        num_kv_heads=2,
        vocab_size=32768,
        seq_len=2048,
        window_pattern="SSSL",
        value_embeddings=True,
        residual_scalars=True,
        smear=True,
        backout=True,
        document_mask=False,
        qk_scale=1.2,
        rope_base=100_000.0,
        softcap=15.0,
        **kwargs,
    ):
        self.depth, self.width, self.seq_len = depth, width, seq_len
        self.num_heads, self.num_kv_heads, self.vocab_size = num_heads, num_kv_heads, vocab_size
        self.window_pattern, self.value_embeddings = window_pattern, value_embeddings
        self.residual_scalars, self.smear, self.backout = residual_scalars, smear, backout
        self.document_mask, self.qk_scale = document_mask, qk_scale
        self.rope_base, self.softcap = rope_base, softcap
        super().__init__(**kwargs)

    def has_value_embedding(self, layer):
        """Every second layer, counted so that the last one always has it."""
        return self.value_embeddings and layer % 2 == (self.depth - 1) % 2

    def window(self, layer):
        """How far ``layer`` looks back, in tokens; short: a quarter of the context in steps of 128."""
        short = -(-self.seq_len // 4 // 128) * 128
        letter = self.window_pattern[layer % len(self.window_pattern)]
        return self.seq_len if letter == "L" or layer == self.depth - 1 else min(short, self.seq_len)
