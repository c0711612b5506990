import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings } from '../lib/registration.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

const CODE = { length: 4096, prot: 'PROT_READ|PROT_EXEC', flags: 'MAP_PRIVATE' } as const;

/** The same directory once more, by a mount with flags of its own. */
async function bindOf(guest: TestGuest, client: Client, path: string, flags: string): Promise<StackedMount> {
  const bind = await guest.mount({ source: path, type: 'none', flags: 'MS_BIND' }, client);
  await client.mount({
    source: 'none',
    target: bind.path,
    type: 'none',
    flags: `MS_REMOUNT|MS_BIND|${flags}`,
  });
  return bind;
}

/** What a program answers that tells whose rights it has, run by a stranger in the directory of the program. */
async function effectiveUser(guest: TestGuest, directory: string): Promise<string> {
  const asStranger = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups', './id', '-u'];
  const { code, stdout, stderr } = await guest.tryRun(asStranger, { cwd: directory });
  return code === 0 ? stdout.trim() : stderr.trim();
}

guestTest('a program is executed and mapped past the server (A20, F7, F12)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await guest.run(['cp', '/usr/bin/id', fuse.backing('id')]);
  t.is((await guest.run([fuse.file('id'), '-u'])).stdout, '0\n');
  t.is(await effectiveUser(guest, fuse.path), '1000');
  await client.chmod({ path: fuse.backing('id'), mode: 0o4755 });
  t.is(await effectiveUser(guest, fuse.path), '0', 'with the setuid bit');
  await client.chmod({ path: fuse.backing('id'), mode: 0o644 });
  t.regex(await effectiveUser(guest, fuse.path), /Permission denied/, 'without the right to execute');
  if (guest.expected.mapsBackingFile) t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('noexec and nosuid of the FUSE mount count (F7, F12)', async (t, guest) => {
  await using client = await guest.client();
  await using nosuid = await guest.mountFuse({ flags: 'MS_NOSUID' });
  await guest.run(['cp', '/usr/bin/id', nosuid.backing('id')]);
  await client.chmod({ path: nosuid.backing('id'), mode: 0o4755 });
  t.is(await effectiveUser(guest, nosuid.path), '1000', 'nosuid');

  await using noexec = await guest.mountFuse({ root: nosuid.root, flags: 'MS_NOEXEC' });
  t.regex(await effectiveUser(guest, noexec.path), /Permission denied/, 'noexec');
  const fd = await client.open({ path: noexec.file('id'), flags: 'O_RDONLY' });
  t.is(await client.errno.mmap({ fd, ...CODE }), 'EPERM', 'a mapping to execute');
  const map = await client.mmap({ fd, ...CODE, prot: 'PROT_READ' });
  await client.munmap({ map });
  await client.close({ fd });
});

guestTest(
  'noexec of the mount that the backing file was reached by does not count (F7)',
  async (t, guest) => {
    needsMappings(guest);
    await using client = await guest.client();
    const root = await guest.directory('ext4', 'root');
    await guest.run(['cp', '/usr/bin/id', `${root}/id`]);
    await using bind = await bindOf(guest, client, root, 'MS_NOEXEC');
    await using fuse = await guest.mountFuse({ root, backingRoot: bind.path });
    t.regex(await effectiveUser(guest, bind.path), /Permission denied/, 'there it does');
    const fd = await client.open({ path: fuse.file('id'), flags: 'O_RDONLY' });
    t.is(await client.errno.mmap({ fd, ...CODE }), 'ok', 'FUSE is a mount of its own');
    await client.close({ fd });
    t.is(await effectiveUser(guest, fuse.path), '1000');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a read-only FUSE mount keeps the backing file as it is (F7, F8)', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ flags: 'MS_RDONLY' });
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  for (const flags of ['O_RDWR', 'O_WRONLY|O_APPEND', 'O_RDONLY|O_TRUNC', 'O_RDWR|O_CREAT']) {
    t.is(await client.errno.open({ path: fuse.file('f'), flags }), 'EROFS', flags);
  }
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a file that is open for writing keeps FUSE, and what lies below it, from becoming read-only (F8, H9)',
  async (t, guest) => {
    await using client = await guest.client();
    const root = await guest.directory('ext4', 'root');
    await client.writeFile({ path: `${root}/f`, data: 'backing' });
    await using bind = await guest.mount({ source: root, type: 'none', flags: 'MS_BIND' }, client);
    await using fuse = await guest.mountFuse({ root, backingRoot: bind.path });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const readOnly = {
      source: 'none',
      target: bind.path,
      type: 'none',
      flags: 'MS_REMOUNT|MS_BIND|MS_RDONLY',
    };
    t.is(await client.errno.mount(readOnly), 'EBUSY', 'the mount of the backing file');
    t.is(await client.errno.mount({ ...readOnly, target: fuse.path }), 'EBUSY', 'the mount of FUSE');
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.is(await client.errno.mount({ ...readOnly, target: fuse.path }), 'ok', 'after the last close');
    t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }), 'EROFS');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'written');
  },
);
