import { Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { forgetName, nextRequest } from '../lib/raw-server.ts';

/** The two queues of /dev/fuse, requests and nodes to be forgotten, of which neither keeps the other waiting. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Of each that the server gets while the other one waits (fs/fuse/dev.c). */
const [REQUESTS, FORGETS] = [8, 16];
const REST = 2;

guestTest(
  'a server that has fallen behind gets requests and forgets in turn, and requests first',
  async (t, guest) => {
    // The last protocol where each node is forgotten by itself.
    const init = { minor: 15, maxBackground: 100, congestionThreshold: 100 } as const;
    const options = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG, init } as const;
    await using fuse = await guest.mountFuse(options);
    await using client = await guest.client();
    await using server = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.NOFLUSH });
    const names = (kind: string, count: number): string[] =>
      Array.from({ length: count }, (_none, nth) => `${kind}${nth}`);
    const opened: number[] = [];
    for (const name of names('open', REQUESTS + REST)) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      opened.push(await client.open({ path: fuse.file(name), flags: 'O_RDONLY' }));
    }
    const known = names('known', FORGETS + REST);
    for (const name of known) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file(name) });
    }
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    for (const name of known) {
      t.is(await forgetName(server, device, name), 'ok', `${name} is forgotten`);
    }
    for (const fd of opened) await client.close({ fd });
    t.is(await fuse.untilWaiting(opened.length), opened.length, 'a RELEASE of each');

    const turns: [string, number][] = [];
    for (let read = 0; read < opened.length + known.length; read++) {
      const { opcode } = await nextRequest(server, device);
      const name = opcode === Opcode.FORGET ? 'FORGET' : opcode === Opcode.RELEASE ? 'RELEASE' : `${opcode}`;
      const last = turns.at(-1);
      if (last?.[0] === name) last[1]++;
      else turns.push([name, 1]);
    }
    t.deepEqual(turns, [
      ['RELEASE', REQUESTS],
      ['FORGET', FORGETS],
      ['RELEASE', REST],
      ['FORGET', REST],
    ]);
    t.is(await server.poll({ fd: device }), 'out', 'no more of either');
    await fuse.abort();
  },
);
