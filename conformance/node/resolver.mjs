// Answers the suite's own host names before the system resolver is asked, so that each hub process can have a loopback
// address of its own (the SDKs dial fixed ports). Child processes get the names through OSTLER_NAMES.

import dns from 'node:dns';

export const names = new Map(Object.entries(JSON.parse(process.env.OSTLER_NAMES ?? '{}')));

const system = dns.lookup;
dns.lookup = (host, options, callback) => system(names.get(host) ?? host, options, callback);
