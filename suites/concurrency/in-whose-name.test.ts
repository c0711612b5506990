import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, forgetName } from '../lib/raw-server.ts';

/** In whose name the requests come that the kernel makes by itself, when the server reads them. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const ROOM = 2 ** 21;
const EIO = -5;
/** Who asks; nobody has these ids in a request that the kernel makes. */
const [UID, GID] = [4000, 4001];

interface Header {
  readonly opcode: number;
  readonly unique: bigint;
  readonly nodeid: bigint;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** What is behind the pid: the length of extensions, and padding. */
  readonly rest: number;
}

/** `fuse_in_header` of the next request. */
async function headerOf(server: Client, device: number): Promise<Header> {
  await eventually(
    () => server.poll({ fd: device }),
    (seen) => seen === 'in|out',
  );
  const raw = await server.read({ fd: device, count: ROOM });
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const [uid = -1, gid = -1, pid = -1, rest = -1] = [24, 28, 32, 36].map((at) => view.getUint32(at, true));
  return {
    opcode: view.getUint32(4, true),
    unique: view.getBigUint64(8, true),
    nodeid: view.getBigUint64(16, true),
    ...{ uid, gid, pid, rest },
  };
}

const NOBODY = { uid: 0, gid: 0, pid: 0, rest: 0 };

guestTest(
  'an INTERRUPT and what is forgotten come in nobody’s name, and no node is named but the one that is forgotten',
  async (t, guest) => {
    const options = { passthrough: 'off', allowOther: true, entryValidS: LONG, attrValidS: LONG } as const;
    await using fuse = await guest.mountFuse(options);
    await using client = await guest.client();
    await using server = await guest.client();
    for (const name of ['a', 'b', 'c']) {
      await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file(name) });
    }
    const nodeid = BigInt(await fuse.nodeid('/a'));
    await client.chdir({ path: fuse.path });
    await client.setCredentials({ uid: UID, gid: GID });
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');

    const asking = client.errno.stat({ path: 'none' });
    asking.catch(() => undefined);
    const asked = await headerOf(server, device);
    t.like(asked, { opcode: Opcode.LOOKUP, nodeid: 1n, uid: UID, gid: GID }, 'a request says who asks');
    t.not(asked.pid, 0, 'and which process');
    const stopped = client.kill('SIGSTOP');
    t.like(
      await headerOf(server, device),
      { opcode: Opcode.INTERRUPT, nodeid: 0n, ...NOBODY },
      'the INTERRUPT of it says no node and nobody',
    );
    t.is(await answerRequest(server, device, { unique: asked.unique, error: EIO }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');

    t.is(await forgetName(server, device, 'a'), 'ok');
    const one = await headerOf(server, device);
    t.like(
      one,
      { opcode: Opcode.FORGET, nodeid, ...NOBODY },
      'one node that is forgotten is named, and nobody',
    );
    t.true(
      one.unique > asked.unique,
      `a FORGET has a number of its own: ${one.unique} after ${asked.unique}`,
    );
    for (const name of ['b', 'c']) t.is(await forgetName(server, device, name), 'ok');
    const several = await headerOf(server, device);
    t.like(
      several,
      { opcode: Opcode.BATCH_FORGET, nodeid: 0n, ...NOBODY },
      'several that are forgotten are in the list alone',
    );
    t.true(
      several.unique > one.unique,
      `a BATCH_FORGET has a number of its own: ${several.unique} after ${one.unique}`,
    );
  },
);
