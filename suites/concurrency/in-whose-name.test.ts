import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, forgetName, nextRequest } from '../lib/raw-server.ts';

/** In whose name the requests come that the kernel makes by itself, when the server reads them. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const EIO = -5;
/** Who asks; nobody has these ids in a request that the kernel makes. */
const [UID, GID] = [4000, 4001];

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
    const asked = await nextRequest(server, device);
    t.like(asked, { opcode: Opcode.LOOKUP, nodeid: 1n, uid: UID, gid: GID }, 'a request says who asks');
    t.not(asked.pid, 0, 'and which process');
    const stopped = client.kill('SIGSTOP');
    t.like(
      await nextRequest(server, device),
      { opcode: Opcode.INTERRUPT, nodeid: 0n, ...NOBODY },
      'the INTERRUPT of it says no node and nobody',
    );
    t.is(await answerRequest(server, device, { unique: asked.unique, error: EIO }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');

    t.is(await forgetName(server, device, 'a'), 'ok');
    const one = await nextRequest(server, device);
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
    const several = await nextRequest(server, device);
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
