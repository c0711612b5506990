import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { Client } from '../lib/client.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';

/** What an overlay syncs, and with fsync=strict before what is copied up gets its name (overlayfs.rst). */

async function needsStrict(guest: TestGuest, client: Client): Promise<void> {
  const lower = await guest.directory('ext4', 'lower');
  const request = overlayRequest({ lower, ...(await upperOn(guest)), options: 'fsync=strict' });
  guest.needs((await guest.mountErrno(request, client)) === 'ok', 'fsync option of overlays');
}

guestTest(
  'with fsync=strict what is neither file nor directory is copied up without an open',
  async (t, guest) => {
    await using client = await guest.client();
    await needsStrict(guest, client);
    await using stack = await upperOnFuse(guest, client, 'fsync=strict');
    const { overlay, fuse, lower } = stack;
    await client.mkdir({ path: `${lower}/first` });
    await client.chmod({ path: overlay.file('first'), mode: 0o700 });
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_644 });
    await client.mknod({ path: `${lower}/device`, mode: 0o020_644, major: 1, minor: 3 });
    await client.mknod({ path: `${lower}/socket`, mode: 0o140_644 });
    const after = await fuse.position();
    for (const name of ['fifo', 'device', 'socket']) {
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o600 }), 'ok', name);
      t.is((await client.lstat({ path: fuse.backing(`upper/${name}`) })).mode & 0o777, 0o600, name);
    }
    const sent = await fuse.opcodes({ opcode: ['OPEN', 'FSYNC', 'FSYNCDIR'], after });
    t.deepEqual(sent, []);
  },
);

guestTest(
  'with fsync=strict a copy that cannot be opened to sync it does not get its name',
  async (t, guest) => {
    await using client = await guest.client();
    await needsStrict(guest, client);
    await using stack = await upperOnFuse(guest, client, 'fsync=strict');
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['file', 'directory/']);
    for (const [name, opcode] of [
      ['file', 'OPEN'],
      ['directory', 'OPENDIR'],
    ] as const) {
      const change = () => client.errno.chmod({ path: overlay.file(name), mode: 0o700 });
      const permit = await fuse.fail(opcode, 'EDQUOT');
      t.is(await change(), 'EDQUOT', name);
      await permit();
      t.is(await client.errno.stat({ path: fuse.backing(`upper/${name}`) }), 'ENOENT', name);
      t.deepEqual(await client.readdir({ path: fuse.backing(WORK_DIR) }), [], `${name}: work directory`);
      t.is(await change(), 'ok', `${name}: later`);
    }
  },
);

guestTest('with fsync=strict a file of more than 2 GiB is synced as any other', async (t, guest) => {
  await using client = await guest.client();
  await needsStrict(guest, client);
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const size = 3 * 2 ** 30;
  await client.writeFile({ path: `${lower}/f`, data: 'beginning' });
  await client.truncate({ path: `${lower}/f`, length: size });
  await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'fsync=strict' }, client);
  t.is(await client.errno.chmod({ path: overlay.file('f'), mode: 0o640 }), 'ok', 'it is copied up');
  const fd = await client.open({ path: `${layers.upper}/f`, flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd, count: 9, offset: 0 })), 'beginning');
  t.is((await client.fstat({ fd })).size, size);
  await client.close({ fd });
});

guestTest(
  'fsync of a directory on an overlay sends nothing to the server of its lower layer (E19)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await fill(client, fuse.root, ['low/', 'merged/']);
    await client.writeFile({ path: overlay.file('merged/new'), data: '' });
    const below = await client.open({ path: fuse.file('low'), flags: 'O_RDONLY|O_DIRECTORY' });
    await client.fsync({ fd: below });
    await client.close({ fd: below });
    t.is((await fuse.requests('FSYNCDIR')).length, 1, 'one that is made there');
    const after = await fuse.position();
    for (const name of ['low', 'merged']) {
      const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY|O_DIRECTORY' });
      t.is(await client.errno.fsync({ fd }), 'ok', `${name}: fsync`);
      t.is(await client.errno.fdatasync({ fd }), 'ok', `${name}: fdatasync`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.opcodes({ opcode: 'FSYNCDIR', after }), [], 'one on the overlay');
  },
);

// With fsync=strict they are not: known failure 0042.
for (const [how, option] of [
  ['by itself', ''],
  ['with fsync=strict', ',fsync=strict'],
] as const) {
  guestTest(
    `an overlay syncs data that are copied up after their metadata before the mark of metadata alone goes, ${how}`,
    async (t, guest) => {
      await using client = await guest.client();
      if (option !== '') await needsStrict(guest, client);
      await using stack = await upperOnFuse(guest, client, `metacopy=on${option}`);
      const { overlay, fuse, lower } = stack;
      await client.writeFile({ path: `${lower}/f`, data: 'contents' });
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      const after = await fuse.position();
      await client.close({ fd: await client.open({ path: overlay.file('f'), flags: 'O_WRONLY' }) });
      const sent = await fuse.opcodes({ opcode: ['WRITE', 'FSYNC', 'REMOVEXATTR'], after });
      t.deepEqual(sent, ['WRITE', 'FSYNC', 'REMOVEXATTR']);
    },
  );
}
