import { guestTest } from '../lib/guest-test.ts';

/** Whose a request is, where who makes it is several: ids of a process, and threads. */

const [REAL, EFFECTIVE, SAVED] = [4000, 4001, 4002];

guestTest(
  'requests are made in the name of the effective ids of who asks, FLUSH included (F1)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: true });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents', mode: 0o666 });
    // Who it is then need not have a way to the mount.
    const dirfd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await client.setCredentials({
      uid: [REAL, EFFECTIVE, SAVED],
      gid: [REAL + 10, EFFECTIVE + 10, SAVED + 10],
      groups: [],
    });
    const after = await fuse.position();
    const fd = await client.open({ dirfd, path: 'f', flags: 'O_RDWR' });
    await client.fsync({ fd });
    await client.close({ fd });
    for (const opcode of ['LOOKUP', 'OPEN', 'FSYNC', 'FLUSH'] as const) {
      const { uid, gid } = await fuse.waitFor({ opcode, after });
      t.deepEqual([uid, gid], [EFFECTIVE, EFFECTIVE + 10], opcode);
    }
  },
);

guestTest('a request names the thread that makes it', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const calls = async (): Promise<void> => {
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.fsync({ fd });
    await client.close({ fd });
  };
  await calls();
  for (const opcode of ['LOOKUP', 'OPEN', 'FSYNC', 'FLUSH'] as const) {
    const { pid } = await fuse.waitFor({ opcode });
    t.not(pid, client.pid, `${opcode}: not the first thread, which makes no calls by itself`);
    t.is(await client.errno.stat({ path: `/proc/${client.pid}/task/${pid}` }), 'ok', `${opcode}: one of it`);
  }
  const after = await fuse.position();
  const path = fuse.file('f');
  const [opened] = await client.batch({
    calls: [
      { call: 'open', args: { path, flags: 'O_RDWR' } },
      { call: 'close', args: { fd: { ref: { of: 0 } } } },
    ],
    oneThread: true,
  });
  t.true(opened !== undefined && 'value' in opened);
  for (const opcode of ['LOOKUP', 'OPEN', 'FLUSH'] as const) {
    t.is((await fuse.waitFor({ opcode, after })).pid, client.pid, `${opcode}: the first thread`);
  }
});
