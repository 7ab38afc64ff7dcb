// A TCP relay between this process's clients and a hub, to be cut at will.
//
// The cut is an orderly end of the connection. A reset would be another matter: over TCP this SDK takes ECONNRESET for an
// error that no retry helps, and stays away (which is why the hub must not reset the connections that it closes).

import dns from 'node:dns/promises';
import net from 'node:net';
import { names } from './resolver.mjs';
import { freeLoopbackAddress } from './process.mjs';

const PORTS = [8883, 443];

/** Puts a relay before `hub` for every connection that this process opens from now on. */
export async function relayBefore(hub) {
  const before = names.get(hub.hostname);
  const target = before ?? (await dns.lookup(hub.hostname)).address;
  const address = await freeLoopbackAddress();
  const pairs = new Set();
  const servers = PORTS.map((port) =>
    net
      .createServer((near) => {
        const far = net.connect(port, target);
        const pair = [near, far];
        pairs.add(pair);
        near.pipe(far).pipe(near);
        for (const end of pair) {
          end.on('error', () => undefined);
          end.once('close', () => pairs.delete(pair));
        }
      })
      .listen(port, address),
  );
  names.set(hub.hostname, address);
  return {
    cut() {
      for (const pair of pairs) for (const end of pair) end.destroySoon();
    },
    close() {
      if (before) names.set(hub.hostname, before);
      else names.delete(hub.hostname);
      for (const server of servers) server.close();
      this.cut();
    },
  };
}
