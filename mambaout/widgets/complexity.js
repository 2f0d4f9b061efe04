// FLOPs of blocks as formulas: those of mambaout/analysis/complexity.py, with which a test compares them.

/**
 * FLOPs of each block for `length` tokens of `dim` channels, split into the two parts that the figure shows.
 * `p` holds mlp_ratio, d_state, expansion_ratio and kernel_size.
 */
function blockFlops(length, dim, p, causal) {
  const linear = (dimIn, dimOut) => 2 * length * dimIn * dimOut;
  const mlpHidden = Math.trunc(p.mlp_ratio * dim), hidden = Math.trunc(p.expansion_ratio * dim);
  const rank = Math.ceil(dim / 16);
  const attentionLinear = 4 * linear(dim, dim) + linear(dim, mlpHidden) + linear(mlpHidden, dim);
  const attentionQuadratic = (causal ? 2 : 4) * dim * length ** 2;
  const gated = linear(dim, 2 * hidden) + linear(hidden, dim) + 2 * p.kernel_size ** 2 * dim * length;
  const ssm = linear(dim, rank + 2 * p.d_state) + linear(rank, dim) + length * dim * (6 * p.d_state + 3);
  return {
    transformer_block: { linear: attentionLinear, quadratic: attentionQuadratic },
    mamba_block: { gated_cnn: gated, ssm },
    gated_cnn_block: { gated_cnn: gated },
  };
}

/** Tokens above which a sequence is long, 6 D; twice as many when causal. */
const lengthThreshold = (dim, p, causal) => (2 + p.mlp_ratio) * dim * (causal ? 2 : 1);

/** Tokens of an image in square patches; a last patch that sticks out is filled up. */
const imageTokens = (height, width, patch) => Math.ceil(height / patch) * Math.ceil(width / patch);
