import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { whereTo, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { answerNamed, INDEX_DIR, indexEntries, layersOnFuse } from '../lib/overlay-on-fuse.ts';

/** An index whose server does not give or take what an overlay wants of it. */

const NLINK = 'trusted.overlay.nlink';

/** An overlay whose upper server has the index, a file of two names below, and its handle. */
async function indexOnFuse(guest: TestGuest, client: Client) {
  const layers = await layersOnFuse(guest, client);
  const { fuse } = layers;
  await fill(client, fuse.backing('lower'), ['f']);
  await client.link({ from: fuse.file('lower/f'), to: fuse.file('lower/g') });
  let handle;
  {
    await using overlay = await layers.mount(WITH_HANDLES);
    handle = await client.nameToHandle({ path: overlay.file('f') });
  }
  return { layers, fuse, handle };
}

guestTest(
  'a name whose entry in the index is not looked up is an error, and its handle is stale (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { layers, fuse, handle } = await indexOnFuse(guest, client);
    await using _layers = layers;
    for (const errno of ['EUCLEAN', 'EIO', 'EACCES', 'ENOMEM']) {
      await using overlay = await layers.mount(WITH_HANDLES);
      const index = await client.stat({ path: fuse.file(INDEX_DIR) });
      t.is(index.mode & 0o170_000, 0o040_000);
      const nodeid = await fuse.nodeid(`/${INDEX_DIR}`);
      const permit = await fuse.fail({ opcode: 'LOOKUP', nodeid }, errno);
      t.is(await client.errno.stat({ path: overlay.file('f') }), errno, 'its name');
      const stale = errno === 'ENOMEM' ? 'ENOMEM' : 'ESTALE';
      t.is(await whereTo(client, overlay.path, handle), stale, `${errno}: its handle`);
      await permit();
      t.is(await client.errno.stat({ path: overlay.file('f') }), 'ok', `${errno}: its name, later`);
    }
  },
);

guestTest(
  'a file that is copied up by its handle is there even if the count of its links cannot be kept, which is told once (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { layers, fuse, handle } = await indexOnFuse(guest, client);
    await using _layers = layers;
    await using overlay = await layers.mount(WITH_HANDLES);
    const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const open = () => client.errno.openByHandle({ mountFd, ...handle, flags: 'O_WRONLY|O_APPEND' });
    const refuse = { do: 'error', errno: 'EDQUOT' } as const;
    const count = { opcode: 'SETXATTR', name: NLINK } as const;
    t.is(await answerNamed(fuse, count, refuse, open), 'EDQUOT');
    const entries = await indexEntries(client, fuse);
    t.is(entries.length, 1, 'it is in the index');
    const entry = { path: fuse.backing(`${INDEX_DIR}/${entries[0] ?? ''}`), name: NLINK };
    t.is(await client.errno.getxattr(entry), 'ENODATA', 'without a count');
    t.is(await open(), 'ok', 'it is there');
    t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), [], 'it has no name');
    await client.close({ fd: mountFd });
  },
);

guestTest(
  'a file that was not copied up because its links could not be counted is what it was when it is mounted again (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const options of ['index=on', WITH_HANDLES]) {
      await using layers = await layersOnFuse(guest, client);
      const { fuse } = layers;
      await fill(client, fuse.backing('lower'), ['f']);
      await client.link({ from: fuse.file('lower/f'), to: fuse.file('lower/g') });
      {
        await using overlay = await layers.mount(options);
        const change = () => client.errno.chmod({ path: overlay.file('f'), mode: 0o604 });
        const refuse = { do: 'error', errno: 'ENOSPC' } as const;
        const count = { opcode: 'SETXATTR', name: NLINK } as const;
        t.is(await answerNamed(fuse, count, refuse, change), 'ENOSPC', `${options}: a new mode`);
        t.is(text(await client.readFile({ path: overlay.file('f') })), 'f at the bottom', options);
      }
      await using overlay = await layers.mount(options);
      for (const name of ['f', 'g']) {
        const path = overlay.file(name);
        t.is(await client.errno.stat({ path }), 'ok', `${options}, mounted again: ${name}`);
        t.is(text(await client.readFile({ path })), 'f at the bottom', `${options}, mounted again: ${name}`);
      }
    }
  },
);

/** What is asked of the server of a file that is open by its handle alone. */
const CALLS: readonly (readonly [
  what: string,
  opcode: 'GETATTR' | 'SETATTR' | 'WRITE' | 'FSYNC',
  call: (client: Client, fd: number) => Promise<string>,
])[] = [
  ['fstat', 'GETATTR', (client, fd) => client.errno.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' })],
  ['fchmod', 'SETATTR', (client, fd) => client.errno.fchmod({ fd, mode: 0o640 })],
  ['ftruncate', 'SETATTR', (client, fd) => client.errno.ftruncate({ fd, length: 5 })],
  ['pwrite', 'WRITE', (client, fd) => client.errno.pwrite({ fd, data: 'new', offset: 0 })],
  ['fsync', 'FSYNC', (client, fd) => client.errno.fsync({ fd })],
];

guestTest(
  'what is refused of a file that has no name but the one in the index is an error of the call, and it gets its name later (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { layers, fuse, handle } = await indexOnFuse(guest, client);
    await using _layers = layers;
    await using overlay = await layers.mount(WITH_HANDLES);
    const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDWR' });
    const [entry = ''] = await indexEntries(client, fuse);
    const nodeid = await fuse.nodeid(`/${INDEX_DIR}/${entry}`);
    for (const [what, opcode, call] of CALLS) {
      const permit = await fuse.fail({ opcode, nodeid }, 'EUCLEAN');
      t.is(await call(client, fd), 'EUCLEAN', what);
      await permit();
      t.is(await call(client, fd), 'ok', `${what}, later`);
    }
    t.is(
      text(await client.readFile({ path: fuse.backing(`${INDEX_DIR}/${entry}`) })),
      'newt ',
      'what it has',
    );
    const change = () => client.errno.chmod({ path: overlay.file('g'), mode: 0o604 });
    const permit = await fuse.fail({ opcode: 'LINK', path: '/upper/g' }, 'EDQUOT');
    t.is(await change(), 'EDQUOT', 'its name');
    t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), [], 'which it does not have');
    t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'newt ', 'it is what it was');
    await permit();
    t.is(await change(), 'ok', 'its name, later');
    t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), ['g'], 'which it has then');
    t.like(await client.fstat({ fd }), { mode: 0o100_604, nlink: 2, size: 5 });
    for (const each of [fd, mountFd]) await client.close({ fd: each });
  },
);
