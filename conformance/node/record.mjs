// A reporter of node's test runner: one JSON document with what ran, for docs/compatibility.md.

const NAME = /^\[(?<sdk>[^|]+) \| (?<operation>[^\]]+)\] (?<behaviour>.*)$/;

export default async function* record(events) {
  const tests = [];
  for await (const { type, data } of events) {
    const named = NAME.exec(data?.name ?? '')?.groups;
    if (!named || (type !== 'test:pass' && type !== 'test:fail')) continue;
    if (data.skip === 'test name does not match pattern') continue;
    const skipped = data.skip !== undefined && data.skip !== false;
    tests.push({
      suite: 'node',
      sdk: named.sdk,
      operation: named.operation,
      test: `${named.sdk}::${named.behaviour}`,
      outcome: skipped ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed',
      seconds: Math.round(data.details.duration_ms / 10) / 100,
      reason: skipped ? String(data.skip) : null,
    });
  }
  tests.sort((one, other) => (one.test < other.test ? -1 : 1));
  yield JSON.stringify({ node: process.versions.node, tests }, null, 1) + '\n';
}
