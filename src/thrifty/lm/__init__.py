"""GPT-2 pretraining with sparsity that varies over the run; imports torch and `thrifty.sparse`.

The model is `gpt`, its attention patterns `attention`, the run `experiment` with its `config`; the
text comes from `corpus`, `bpe` and `tokens`; what it costs is `ledger`, how sparse it is when
`plan`. Hugging Face's layout of the weights is in `weights`.
"""
