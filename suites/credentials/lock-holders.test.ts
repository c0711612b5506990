import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** By which number a process that has a lock is known, where server and callers are of several pid namespaces. */

const PID_NAMESPACE = ['unshare', '--pid', '--fork'];
const INIT = { addFlags: ['POSIX_LOCKS'] } as const;
/** asm-generic/fcntl.h */
const F_WRLCK = 1;
const LOCK = { type: 'F_WRLCK', start: 0, length: 10 } as const;

/** `fuse_lk_out`: the first ten bytes are locked by the process that the server knows by this number. */
function heldBy(pid: number): Uint8Array {
  const body = new Uint8Array(24);
  const view = new DataView(body.buffer);
  view.setBigUint64(8, 9n, true);
  view.setUint32(16, F_WRLCK, true);
  view.setUint32(20, pid, true);
  return body;
}

/** Who has the lock by F_GETLK, where the server answers with this number. */
async function holder(client: Client, fuse: FuseMount, fd: number, pid: number): Promise<number> {
  const takeBack = await fuse.rule({ match: { opcode: 'GETLK' }, action: { do: 'body', body: heldBy(pid) } });
  const found = await client.getlk({ fd, ...LOCK });
  await takeBack();
  return found.pid;
}

/** The numbers of a process, from the namespace that asks down to its own (proc_pid_status(5)). */
async function numbers(client: Client, pid: number): Promise<number[]> {
  const status = text(await client.readFile({ path: `/proc/${pid}/status` }));
  const line = status.split('\n').find((each) => each.startsWith('NSpid:')) ?? '';
  return line.split(/\s+/).slice(1).map(Number);
}

async function open(client: Client, fuse: FuseMount): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

guestTest(
  'a server in a pid namespace of its own tells by its own number who has a lock, and callers outside see theirs (A44)',
  async (t, guest) => {
    await using server = await guest.server({ launcher: PID_NAMESPACE });
    await using fuse = await guest.mountFuse({ server, passthrough: 'off', init: INIT });
    await using client = await guest.client();
    const fd = await open(client, fuse);
    // The first process of the namespace: the server itself.
    const pid = await holder(client, fuse, fd, 1);
    t.deepEqual(
      await numbers(client, pid),
      [pid, 1],
      `the holder that the server knows as 1 is ${pid} outside`,
    );
    await client.setlk({ fd, ...LOCK });
    const { args } = await fuse.waitFor('SETLK');
    t.is(args['pid'], 0, 'a process that the server cannot know sets a lock without a number');
    await client.close({ fd });
  },
);

guestTest(
  'a caller in a pid namespace of its own sees its own number as the holder of its lock, the server that of outside (A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: INIT });
    await using root = await guest.client();
    await using client = await guest.client({ launcher: PID_NAMESPACE });
    const fd = await open(client, fuse);
    const own = await client.getpid({});
    t.is(own, 1, 'the first of its namespace');
    await client.setlk({ fd, ...LOCK });
    const { args } = await fuse.waitFor('SETLK');
    const outside = Number(args['pid']);
    t.deepEqual(await numbers(root, outside), [outside, own], 'SETLK has the number that the server knows');
    t.is(await holder(client, fuse, fd, outside), own, 'F_GETLK tells it as it is known to the caller');
    t.is(await holder(client, fuse, fd, root.pid), 0, 'a holder outside has no number there');
    await client.close({ fd });
  },
);
