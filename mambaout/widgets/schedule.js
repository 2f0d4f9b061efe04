// The formulas of mambaout.training.optim.warmup_cosine and of the engine, which a test compares with them.

/** Learning rate of step t (from 0) as a share of the peak. */
function scheduleShare(t, steps, warmup, start, end) {
  if (t < warmup) return start + ((1 - start) * t) / warmup;
  const done = Math.min(1, (t - warmup) / Math.max(1, steps - 1 - warmup));
  return end + ((1 - end) * (1 + Math.cos(Math.PI * done))) / 2;
}

/** What a recipe makes of so many images: steps, peak rate, the rate of every step, what decay alone leaves. */
function trainingPlan(recipe) {
  const perEpoch = Math.floor(recipe.images / recipe.batch_size);
  const steps = recipe.epochs * perEpoch;
  const all = steps + recipe.cooldown_epochs * perEpoch;
  const warmup = Math.round(recipe.warmup_epochs * perEpoch);
  const peak = (recipe.lr * recipe.batch_size) / recipe.lr_batch;
  const start = Math.min(1, recipe.warmup_lr / peak), end = Math.min(1, recipe.min_lr / peak);
  const rate = (t) => peak * scheduleShare(t, steps, warmup, start, end);
  let sum = 0;
  for (let t = 0; t < all; t++) sum += rate(t);
  return { perEpoch, steps: all, warmup, peak, rate, seen: all * recipe.batch_size,
    left: Math.exp(-recipe.weight_decay * sum) };
}
