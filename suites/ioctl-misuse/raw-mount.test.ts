import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import type { TestGuest } from '../lib/guest.ts';

/** mount(2) of a FUSE device by hand: what the options have to say, and whose device it may be. */

type Options = Readonly<Record<string, string | null>>;

const NEEDED: Options = { rootmode: '40000', user_id: '0', group_id: '0' };

/** As for mount(2); those that are null are left out. */
function asText(options: Options): string {
  return Object.entries(options)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => (value === '' ? name : `${name}=${value}`))
    .join(',');
}

function mountErrno(guest: TestGuest, client: Client, options: Options): Promise<string> {
  return guest.mountErrno({ source: 'by-hand', type: 'fuse', options: asText(options) }, client);
}

/** Beside the descriptor of a fresh device; later ones replace what is needed. */
const OPTIONS: readonly (readonly [Options, string])[] = [
  [{}, 'ok'],
  [{ fd: null }, 'EINVAL'],
  [{ rootmode: null }, 'EINVAL'],
  [{ user_id: null }, 'EINVAL'],
  [{ group_id: null }, 'EINVAL'],
  [{ fd: '999' }, 'EINVAL'],
  [{ fd: 'first' }, 'EINVAL'],
  [{ rootmode: '0' }, 'EINVAL'],
  [{ rootmode: '170000' }, 'EINVAL'],
  [{ rootmode: '100000' }, 'ENOTDIR'],
  [{ user_id: '4294967295' }, 'EINVAL'],
  [{ group_id: '4294967295' }, 'EINVAL'],
  [{ blksize: '512' }, 'EINVAL'],
  [{ max_read: 'much' }, 'EINVAL'],
  [{ source: 'twice' }, 'EINVAL'],
  [{ subtype: 'one,subtype=two' }, 'EINVAL'],
  [{ no_such_option: '' }, 'EINVAL'],
  [{ mand: '' }, 'EINVAL'],
];

guestTest(
  'a mount needs its device, type and owner of the root, and no option that is none',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [change, errno] of OPTIONS) {
      const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
      const words = asText({ fd: 'DEVICE', ...NEEDED, ...change });
      const options = { fd: String(fd), ...NEEDED, ...change };
      t.is(await mountErrno(guest, client, options), errno, `a mount with ${words}`);
      await client.close({ fd });
    }
    const [reads, writes] = await client.pipe({});
    const [near, far] = await client.socketpair({});
    // Of most of these the kernel keeps something beside the descriptor, as it does of a device that is mounted.
    for (const [what, fd] of Object.entries({
      '/dev/null': await client.open({ path: '/dev/null', flags: 'O_RDWR' }),
      'one end of a pipe': reads,
      'the other end of a pipe': writes,
      'a socket': near,
      'the other socket': far,
      'an eventfd': await client.eventfd({}),
    })) {
      const errno = await mountErrno(guest, client, { fd: String(fd), ...NEEDED });
      t.is(errno, 'EINVAL', `the descriptor of ${what}, which is no FUSE device`);
      await client.close({ fd });
    }
  },
);

guestTest('a mount shows the owner that it was made for', async (t, guest) => {
  await using client = await guest.client();
  const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
  const options = asText({ fd: String(fd), ...NEEDED, user_id: '7', group_id: '8' });
  await using mount = await guest.mount({ source: 'by-hand', type: 'fuse', options }, client);
  t.is((await mountedAt(client, mount.path)).options, 'rw,user_id=7,group_id=8');
});

guestTest('a mount shows of which kind it is, said by its type or by an option', async (t, guest) => {
  await using client = await guest.client();
  for (const [type, subtype, shown] of [
    ['fuse.kind', null, 'fuse.kind'],
    ['fuse', 'option', 'fuse.option'],
    ['fuse', null, 'fuse'],
  ] as const) {
    const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
    const options = asText({ fd: String(fd), ...NEEDED, subtype });
    await using mount = await guest.mount({ source: 'by-hand', type, options }, client);
    const table = text(await client.readFile({ path: '/proc/self/mounts' })).split('\n');
    const line = table.map((each) => each.split(' ')).find(([, where]) => where === mount.path);
    t.is(line?.[2], shown, `type ${type}, subtype ${subtype}`);
    await client.close({ fd });
  }
});

guestTest('a mount has one in a hundred of the pages that may be dirty, and never more', async (t, guest) => {
  await using client = await guest.client();
  const fd = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
  const options = asText({ fd: String(fd), ...NEEDED });
  await using mount = await guest.mount({ source: 'by-hand', type: 'fuse', options }, client);
  const { minor } = await mountedAt(client, mount.path);
  const bdi = `/sys/class/bdi/0:${minor}`;
  const said = async (name: string): Promise<string> =>
    text(await client.readFile({ path: `${bdi}/${name}` })).trim();
  t.is(await said('max_ratio'), '1', 'of a hundred');
  // Told since Linux 6.2.
  if ((await client.readdir({ path: bdi })).includes('strict_limit')) {
    t.is(await said('strict_limit'), '1', 'also while others have few');
  }
});

guestTest(
  'a device is mounted in the user namespace that it was opened in, and no other',
  async (t, guest) => {
    const launcher = ['unshare', '--user', '--map-root-user', '--mount'];
    await using client = await guest.client();
    await using inside = await guest.client({ launcher });
    const device = await inside.open({ path: '/dev/fuse', flags: 'O_RDWR' });
    const fd = await client.adoptFd({ pid: inside.pid, fd: device });
    const refused = 'outside of the namespace it was opened in';
    t.is(await mountErrno(guest, client, { fd: String(fd), ...NEEDED }), 'EINVAL', refused);
    for (const owner of ['user_id', 'group_id']) {
      const options = { fd: String(device), ...NEEDED, [owner]: '7' };
      t.is(await mountErrno(guest, inside, options), 'EINVAL', `${owner} that the namespace does not have`);
    }
    t.is(await mountErrno(guest, inside, { fd: String(device), ...NEEDED }), 'ok', 'in it');
    await client.close({ fd });
  },
);

guestTest(
  'a device that is mounted once more is the same filesystem, and none after the last unmount',
  async (t, guest) => {
    // Mounts of other devices, made before and after it, are not it.
    await using _before = await guest.mountFuse();
    await using fuse = await guest.mountFuse();
    await using _after = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = String(await fuse.server.lendDevice(client));
    const request = { source: 'by-hand', type: 'fuse', options: asText({ fd, ...NEEDED }) };
    t.is(await mountErrno(guest, client, { fd, ...NEEDED }), 'ok', 'a device that is mounted already');
    const second = await guest.mount(request, client);
    const identity = async (path: string): Promise<unknown> => {
      const { devMajor, devMinor, ino } = await client.stat({ path });
      return { devMajor, devMinor, ino };
    };
    t.deepEqual(await identity(second.path), await identity(fuse.path), 'device and inode of the root');
    t.is(text(await client.readFile({ path: second.file('f') })), 'contents');
    t.is((await fuse.requests('INIT')).length, 1, 'one connection');
    t.is(await fuse.unmount(), 'ok');
    t.is(text(await client.readFile({ path: second.file('f') })), 'contents', 'without the first mount');
    t.is(await second.unmount(), 'ok');
    t.is(await mountErrno(guest, client, { fd, ...NEEDED }), 'ENOTCONN', 'after the last unmount');
  },
);

guestTest(
  'a remount makes the mount read-only and back, and no other option of it counts',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: false });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const remount = (flags: string): Promise<string> => {
      const options = 'allow_other,no_such_option';
      return client.errno.mount({ source: 'none', target: fuse.path, type: 'fuse', flags, options });
    };
    const file = { path: fuse.file('f'), data: 'new', flags: 'O_WRONLY' };
    t.is(await remount('MS_REMOUNT|MS_RDONLY'), 'ok', 'a remount with further options');
    t.is(await client.errno.writeFile(file), 'EROFS', 'read-only');
    t.is(await remount('MS_REMOUNT'), 'ok');
    const mandatory = { source: 'none', target: fuse.path, type: 'fuse', options: 'mand' };
    t.is(await client.errno.mount({ ...mandatory, flags: 'MS_REMOUNT|MS_RDONLY' }), 'EINVAL', 'mand');
    t.is(await client.errno.writeFile(file), 'ok', 'and back');
    t.is((await mountedAt(client, fuse.path)).options, 'rw,user_id=0,group_id=0', 'as it was mounted');
  },
);

for (const [flags, what, mode] of [
  ['', 'without', 0o640],
  ['MS_POSIXACL', 'with', 0o666],
] as const) {
  guestTest(
    `${what} MS_POSIXACL the mode of a new file comes with${mode === 0o640 ? '' : 'out'} the umask taken off`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ flags });
      await using client = await guest.client();
      await client.umask({ mask: 0o026 });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT', mode: 0o666 });
      const [create] = await fuse.requests('CREATE');
      t.is(Number(create?.args['mode']) & 0o7777, mode, 'CREATE');
      t.is(create?.args['umask'], 0o026);
      await client.close({ fd });
      await client.mkdir({ path: fuse.file('d'), mode: 0o666 });
      const [mkdir] = await fuse.requests('MKDIR');
      t.is(Number(mkdir?.args['mode']) & 0o777, mode, 'MKDIR');
    },
  );
}
