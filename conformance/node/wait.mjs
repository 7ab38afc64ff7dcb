// Waiting on conditions, never on the clock alone.

/** Resolves with the first true value of `check`, which is asked until `timeout` (ms) has passed. */
export async function eventually(check, what = 'the condition', timeout = 15_000) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come true within ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Rejects if `promise` takes longer than `timeout` (ms): several SDK calls would wait for ever. */
export function within(promise, what, timeout = 25_000) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${timeout} ms`)), timeout);
  });
  return Promise.race([promise, expired]).finally(() => clearTimeout(timer));
}
