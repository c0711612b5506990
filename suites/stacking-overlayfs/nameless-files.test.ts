import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** O_TMPFILE on an overlay, in a directory that only the lower layer has. */

const [CALLER, GROUP] = [1500, 2345];
const LONG_AGO_NS = 1_500_000_000_000_000_000;
const UNSUPPORTED = { do: 'error', errno: 'EOPNOTSUPP' } as const;

guestTest(
  'a file without a name gets its directory copied up, and has the owner that a named one has (A4)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/below']);
    // setgid: what is made there belongs to the directory's group.
    await client.chown({ path: `${lower}/d`, uid: 0, gid: GROUP });
    await client.chmod({ path: `${lower}/d`, mode: 0o2777 });
    await using overlay = await over(guest, client, layers);
    await using caller = await guest.client();
    await caller.chdir({ path: overlay.file('d') });
    await caller.setCredentials({ uid: CALLER, gid: CALLER });
    const fd = await caller.open({ path: '.', flags: 'O_TMPFILE|O_RDWR', mode: 0o640 });
    await caller.write({ fd, data: 'nameless' });
    t.is(text(await caller.pread({ fd, count: 20, offset: 0 })), 'nameless');
    t.deepEqual(await client.readdir({ path: upper }), ['d'], 'the directory is copied up');
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['below'], 'no name yet');
    const { ino } = await caller.fstat({ fd });
    t.is(
      await client.readlink({ path: `/proc/${caller.pid}/fd/${fd}` }),
      `${overlay.file('d')}/#${ino} (deleted)`,
      'until it has a name it is called by its number',
    );
    await client.linkFd({ fd: await client.adoptFd({ pid: caller.pid, fd }), to: overlay.file('d/named') });
    await caller.close({ fd });
    for (const path of [overlay.file('d/named'), `${upper}/d/named`]) {
      const { uid, gid, mode, size } = await client.stat({ path });
      const kept = { uid: CALLER, gid: GROUP, mode: 0o100_640, size: 8 };
      t.deepEqual({ uid, gid, mode, size }, kept, path);
    }
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['below', 'named']);
  },
);

guestTest('a file without a name is not there where the upper server makes none (A4)', async (t, guest) => {
  guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
  await using client = await guest.client();
  for (const rules of [[], [{ match: { opcode: 'TMPFILE' }, action: UNSUPPORTED }] as const]) {
    await using stack = await upperOnFuse(guest, client, undefined, { rules });
    const { overlay, fuse } = stack;
    const make = () => client.errno.open({ path: overlay.path, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
    const can = rules.length === 0;
    t.is(await make(), can ? 'ok' : 'EOPNOTSUPP', 'when the overlay is mounted');
    const after = await fuse.position();
    await fuse.fail('TMPFILE', 'EDQUOT');
    t.is(await make(), can ? 'EDQUOT' : 'EOPNOTSUPP', 'later');
    t.deepEqual(await fuse.opcodes({ opcode: 'TMPFILE', after }), can ? ['TMPFILE'] : [], 'asked for');
  }
});

guestTest(
  'a file without a name has the mode that is asked for but for the umask, and may be kept from getting a name (A4)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await using overlay = await over(guest, client, layers);
    await client.umask({ mask: 0o027 });
    const make = (flags: string) =>
      client.open({ path: overlay.path, flags: `O_TMPFILE|O_RDWR${flags}`, mode: 0o666 });
    const free = await make('');
    const [kept, append] = [await make('|O_EXCL'), await make('|O_APPEND')];
    t.is(((await client.fstat({ fd: free })).mode & 0o7777).toString(8), '640', 'its mode');
    t.is((await client.fstat({ fd: free })).nlink, 0, 'it has no link');
    const link = (fd: number, name: string) => client.errno.linkFd({ fd, to: overlay.file(name) });
    t.is(await link(kept, 'kept'), 'ENOENT', 'with O_EXCL');
    t.is(await link(free, 'free'), 'ok', 'without');
    t.is((await client.fstat({ fd: free })).nlink, 1, 'it has one now');
    await client.write({ fd: append, data: 'one' });
    await client.pwrite({ fd: append, data: 'two', offset: 0 });
    t.is(text(await client.pread({ fd: append, count: 9, offset: 0 })), 'onetwo', 'with O_APPEND');
    t.deepEqual(await client.readdir({ path: layers[1] ?? '' }), ['free']);
    for (const fd of [free, kept, append]) await client.close({ fd });
  },
);

guestTest(
  'reading a file without a name changes its access time, but not on an overlay without access times (A4)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
    await using client = await guest.client();
    await using overlay = await over(guest, client, await layersOf(guest, 2));
    const read = async (): Promise<number> => {
      const fd = await client.open({ path: overlay.path, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
      await client.write({ fd, data: 'nameless' });
      await client.utimens({ path: `/proc/${client.pid}/fd/${fd}`, atimeNs: LONG_AGO_NS, mtimeNs: null });
      t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'nameless');
      const { atimeNs } = await client.fstat({ fd });
      await client.close({ fd });
      return atimeNs;
    };
    t.not(await read(), LONG_AGO_NS, 'with access times');
    const remount = { source: '', target: overlay.path, type: '', flags: 'MS_REMOUNT|MS_BIND|MS_NOATIME' };
    await client.mount(remount);
    t.is(await read(), LONG_AGO_NS, 'without');
  },
);
