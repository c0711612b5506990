import { text } from '../lib/bytes.ts';
import { ATTR, ATTR_OUT, ENTRY, u32 } from '../lib/entry-answer.ts';
import { FsContext, DONE } from '../lib/fs-context.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mapIds } from '../lib/idmapped.ts';
import { answerRequest, initBody, nextRequest } from '../lib/raw-server.ts';

/** What there is of a mount before its server has said a word, and what is not the server's to say. */

/** linux/fs.h */
const FIGETBSZ = 2;
const PAGE = 4096;
const ROOT_MODE = 0o040_751;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `fuse_attr.flags`, and what it says of a directory that is a mount of its own: a word of virtiofs. */
const ATTR_FLAGS = 84;
const ATTR_SUBMOUNT = 1;

guestTest('until its server has told more the root has a number, one link and its type', async (t, guest) => {
  await using client = await guest.client();
  const device = await client.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
  const options = `fd=${device},rootmode=${ROOT_MODE.toString(8)},user_id=0,group_id=0`;
  await using mount = await guest.mount({ source: 'by-hand', type: 'fuse', options }, client);
  const { ino, nlink, mode, size } = await client.stat({ path: mount.path, flags: 'AT_STATX_DONT_SYNC' });
  t.is(ino, 1, 'the number of its inode');
  t.is(nlink, 1, 'its links');
  t.is(mode, ROOT_MODE, 'its type, as the mount has said');
  t.is(size, 0);
  t.is((await nextRequest(client, device)).opcode, Opcode.INIT);
  t.is(await client.poll({ fd: device }), 'out', 'the server is asked for nothing else');
  await client.close({ fd: device });
});

guestTest(
  'the block size of a mount without block device is a page, whatever its files have',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 0 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const bytes = u32(65_536);
    const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.blksize, bytes } as const;
    await fuse.rule({ match: { opcode: 'GETATTR' }, action });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is((await client.fstat({ fd })).blksize, 65_536, 'what the server says of the file');
    const { arg } = await client.ioctl({ fd, request: FIGETBSZ, arg: new Uint8Array(4) });
    t.deepEqual(arg, u32(PAGE), 'FIGETBSZ');
    t.deepEqual(await fuse.opcodes('IOCTL'), [], 'the server is not asked for it');
    await client.close({ fd });
  },
);

guestTest(
  'a mount that was forced away while it is in use has its backing device until nobody has it',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const bdi = `/sys/class/bdi/0:${fuse.connection}`;
    const fd = await client.open({ path: fuse.path, flags: 'O_PATH' });
    t.is(await client.errno.stat({ path: bdi }), 'ok', bdi);
    t.is(await fuse.unmount('MNT_FORCE'), 'EBUSY', 'in use');
    t.is(await client.errno.stat({ path: bdi }), 'ok', `${bdi} after the forced unmount`);
    await client.close({ fd });
    t.is(await fuse.unmount(), 'ok');
    t.is(await client.errno.stat({ path: bdi }), 'ENOENT', `${bdi} after the last unmount`);
  },
);

guestTest('a directory that its server says to be a mount of its own is none', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: LONG });
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  await client.writeFile({ path: fuse.backing('d/f'), data: 'contents' });
  const action = { do: 'patch', at: ENTRY.attr + ATTR_FLAGS, bytes: u32(ATTR_SUBMOUNT) } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP', path: '/d' }, action });
  const { devMajor, devMinor } = await client.stat({ path: fuse.path });
  const below = await client.stat({ path: fuse.file('d/f') });
  t.deepEqual([below.devMajor, below.devMinor], [devMajor, devMinor], 'the device of a file below it');
  const mounts = text(await client.readFile({ path: '/proc/self/mounts' })).split('\n');
  t.is(mounts.filter((line) => line.includes(fuse.path)).length, 1, 'no mount but the one that was made');
});

/** A namespace has root as it is outside, and nine more ids, from 1 on, that are others there. */
const IDS = ['0 0 1', '1 5000 9'];

guestTest(
  'ids of a server are those of the user namespace that a mount was begun in, whoever completes it',
  async (t, guest) => {
    await using root = await guest.client();
    await using inside = await guest.client({ launcher: ['unshare', '--user', '--mount', '--keep-caps'] });
    // Who answers is in the namespace: before, the launcher may still be on its way into it.
    await inside.getpid({});
    await mapIds(root, inside.pid, IDS);
    const device = await inside.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
    const options = ['rootmode=40000', 'user_id=0', 'group_id=0'];
    const fd = await root.adoptFd({ pid: inside.pid, fd: device });
    const begun = await inside.fsopen({ type: 'fuse' });
    {
      await using context = FsContext.of(root, await root.adoptFd({ pid: inside.pid, fd: begun }));
      for (const option of [`fd=${fd}`, ...options]) t.deepEqual(await context.set(option), DONE, option);
      t.deepEqual(await context.create(), DONE, 'by who is not in the namespace');
    }
    const request = { source: 'by-hand', type: 'fuse', options: [`fd=${device}`, ...options].join(',') };
    await using mount = await guest.mount(request, inside);
    await inside.close({ fd: begun });
    const init = await nextRequest(root, fd);
    t.is(init.opcode, Opcode.INIT);
    t.is(await answerRequest(root, fd, { unique: init.unique, body: initBody(31) }), 'ok');
    const asking = inside.stat({ path: mount.path });
    asking.catch(() => undefined);
    const { opcode, unique } = await nextRequest(root, fd);
    t.is(opcode, Opcode.GETATTR);
    const body = new Uint8Array(ATTR_OUT.attr + 88);
    for (const [member, value] of [
      ['mode', ROOT_MODE],
      ['nlink', 1],
      ['uid', 1],
      ['gid', 2],
    ] as const) {
      body.set(u32(value), ATTR_OUT.attr + ATTR[member]);
    }
    t.is(await answerRequest(root, fd, { unique, body }), 'ok');
    const { uid, gid } = await asking;
    t.deepEqual({ uid, gid }, { uid: 1, gid: 2 }, 'as the namespace knows them, which the server means');
    await root.close({ fd });
  },
);
