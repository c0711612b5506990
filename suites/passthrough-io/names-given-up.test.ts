import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What becomes of that which is open, or mounted, under a name that the kernel gives up or gives to something else. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { entryValidS: LONG, attrValidS: LONG } as const;
const DIRECTORY = 0o040_755;

/** The kernel says of a file whose name it has dropped that it is deleted. */
function nameOf(client: Client, fd: number): Promise<string> {
  return client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
}

/** Mounts something at a name; tells whether it is still there. What the kernel does not take away goes at the end. */
async function mountAt(
  client: Client,
  fuse: FuseMount,
  name: string,
): Promise<AsyncDisposable & { readonly isThere: () => Promise<boolean> }> {
  const target = fuse.file(name);
  const deviceOf = async (path: string): Promise<string> => {
    const { devMajor, devMinor } = await client.stat({ path });
    return `${devMajor}:${devMinor}`;
  };
  await client.mount({ source: 'none', target, type: 'tmpfs' });
  return {
    isThere: async () => (await deviceOf(target)) !== (await deviceOf(fuse.path)),
    [Symbol.asyncDispose]: async () => {
      await client.errno.umount2({ target, flags: 'MNT_DETACH' });
    },
  };
}

guestTest(
  'an open file has no name any more once nobody knows whether the server has removed it (C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    for (const [errno, name] of [
      ['EPERM', path],
      ['EINTR', `${path} (deleted)`],
    ] as const) {
      await fuse.fail('UNLINK', errno, 1);
      t.is(await client.errno.unlink({ path }), errno);
      t.is(await nameOf(client, fd), name, `after ${errno}: the name that the open file has`);
    }
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'what is mounted in a directory is taken away once nobody knows whether the server has removed that (C9)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    for (const name of ['d', 'd/m']) await client.mkdir({ path: fuse.backing(name) });
    await using mount = await mountAt(client, fuse, 'd/m');
    for (const [errno, stays] of [
      ['EPERM', true],
      ['EINTR', false],
    ] as const) {
      await fuse.fail('RMDIR', errno, 1);
      t.is(await client.errno.rmdir({ path: fuse.file('d') }), errno);
      t.is(await mount.isThere(), stays, `after ${errno}: is the mount in the directory still there?`);
    }
  },
);

guestTest(
  'INVAL_ENTRY takes away what is mounted at the name, or in the directory of that name',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    for (const name of ['m', 'd', 'd/m']) await client.mkdir({ path: fuse.backing(name) });
    for (const [name, at] of [
      ['m', 'm'],
      ['d', 'd/m'],
    ] as const) {
      await using mount = await mountAt(client, fuse, at);
      t.true(await mount.isThere(), `${at}: it is mounted`);
      t.is(await fuse.notify({ parent: '/', name }), 'ok');
      t.false(await mount.isThere(), `${at}: the mount is gone with the name ${name}`);
    }
  },
);

guestTest(
  'a directory that MKDIR is answered with, and that is known, has its new name for as long as the answer says',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(BELIEVED);
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('known') });
    const doesNotCount = { do: 'patch', at: ENTRY.entryValid, bytes: u64(0n) } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP', path: '/known' }, action: doesNotCount });
    const fd = await client.open({ path: fuse.file('known'), flags: 'O_RDONLY|O_DIRECTORY' });
    const body = entryAnswer({ nodeid: BigInt(await fuse.nodeid('/known')), entryValidS: LONG });
    body.set(u64(BigInt(LONG)), ENTRY.attrValid);
    body.set(u32(DIRECTORY), ENTRY.attr + ATTR.mode);
    body.set(u32(2), ENTRY.attr + ATTR.nlink);
    await fuse.rule({ match: { opcode: 'MKDIR', path: '/made' }, action: { do: 'body', body } });
    await client.mkdir({ path: fuse.file('made') });
    t.is(await nameOf(client, fd), fuse.file('made'), 'one directory, which has moved');
    const after = await fuse.position();
    t.is(await client.errno.stat({ path: fuse.file('made') }), 'ok');
    t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), [], 'the new name is not looked up');
    await client.close({ fd });
  },
);
