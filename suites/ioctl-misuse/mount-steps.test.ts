import { guestTest } from '../lib/guest-test.ts';
import { DONE, FsContext, switchReadOnly, SWITCHED, type Step } from '../lib/fs-context.ts';
import { mountedAt } from '../lib/mounted-at.ts';

/** FUSE mounted and changed step by step (fsopen(2), fspick(2)): what is refused, and what the kernel says of it. */

const NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount'];
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];

const refused = (message: string): Step => ({ errno: 'EINVAL', said: [`e fuse: ${message}`] });

/** Options that go well one after the other, and what comes of each of these then. */
const OPTIONS: Readonly<Record<string, Step>> = {
  no_such_option: refused("Unknown parameter 'no_such_option'"),
  'rootmode=0': refused('Invalid rootmode'),
  'rootmode=nine': refused("Bad value for 'rootmode'"),
  'fd=first': refused("Bad value for 'fd'"),
  'allow_other=yes': refused("Unexpected value for 'allow_other'"),
  max_read: refused("Bad value for 'max_read'"),
  'blksize=512': refused('blksize only supported for fuseblk'),
  'source=another': refused('Multiple sources specified'),
  'subtype=another': refused('Multiple subtypes specified'),
  'rootmode=40000': DONE,
  'user_id=0': DONE,
  ro: DONE,
};

guestTest('of an option that a mount cannot have the kernel says why', async (t, guest) => {
  await using client = await guest.client();
  await using context = await FsContext.open(client, 'fuse');
  for (const option of ['source=one', 'subtype=one']) t.deepEqual(await context.set(option), DONE, option);
  for (const [option, step] of Object.entries(OPTIONS)) t.deepEqual(await context.set(option), step, option);
  t.is((await context.reconfigure()).errno, 'EBUSY', 'there is nothing to change yet');
  t.is((await context.create()).errno, 'EINVAL', 'without a device');
  t.is((await context.set('group_id=0')).errno, 'EBUSY', 'a mount that has failed has failed');
  t.is((await context.create()).errno, 'EBUSY', 'and is not tried again');
});

guestTest('a device is mounted step by step as it is by mount', async (t, guest) => {
  await using client = await guest.client();
  const device = await client.open({ path: '/dev/fuse', flags: 'O_RDWR' });
  {
    await using context = await FsContext.open(client, 'fuse');
    for (const option of [`fd=${device}`, 'rootmode=40000', 'user_id=0', 'group_id=0']) {
      t.deepEqual(await context.set(option), DONE, option);
    }
    t.deepEqual(await context.create(), DONE);
    t.is((await context.create()).errno, 'EBUSY', 'once');
  }
  const options = `fd=${device},rootmode=40000,user_id=0,group_id=0`;
  const request = { source: 'by-hand', type: 'fuse', options };
  t.is(await guest.mountErrno(request, client), 'ENOTCONN', 'its filesystem is gone with the context');
  await client.close({ fd: device });
});

guestTest(
  'the owner of a mount has to be of the user namespace that it is for, whoever says it',
  async (t, guest) => {
    await using client = await guest.client();
    await using inside = await guest.client({ launcher: NAMESPACE });
    const fd = await client.adoptFd({ pid: inside.pid, fd: await inside.fsopen({ type: 'fuse' }) });
    await using context = FsContext.of(client, fd);
    for (const owner of ['user_id', 'group_id']) {
      t.deepEqual(await context.set(`${owner}=7`), refused(`Invalid ${owner}`), 'not mapped there');
      t.deepEqual(await context.set(`${owner}=0`), DONE, 'its root');
    }
  },
);

/** None of which can be changed, as they are or otherwise. */
const MOUNTED = [
  'source=another',
  'fd=0',
  'rootmode=40000',
  'user_id=0',
  'group_id=7',
  'allow_other',
  'default_permissions',
  'max_read=4096',
  'blksize=512',
  'subtype=another',
  'no_such_option',
];

guestTest(
  'no option of a mounted filesystem can be changed but whether it is read-only',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ allowOther: false });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const file = { path: fuse.file('f'), data: 'new', flags: 'O_WRONLY' };
    const before = await mountedAt(client, fuse.path);
    const after = await fuse.position();
    {
      await using context = await FsContext.pick(client, fuse.path);
      for (const option of MOUNTED) {
        t.deepEqual(await context.set(option), refused('No changes allowed in reconfigure'), option);
      }
      t.deepEqual(await context.reconfigure(), DONE, 'with none of them');
      t.deepEqual(await mountedAt(client, fuse.path), before, 'it is as it was');
      const write = () => client.errno.writeFile(file);
      t.deepEqual(await switchReadOnly(context, write), SWITCHED, 'the context serves again');
      t.is((await context.create()).errno, 'EBUSY', 'it is there already');
    }
    t.deepEqual(await fuse.requests({ opcode: 'INIT', after }), [], 'it is one connection all the time');
  },
);

guestTest('a filesystem with a file open for writing does not become read-only', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  {
    await using context = await FsContext.pick(client, fuse.path);
    t.deepEqual(await context.set('ro'), DONE);
    t.is((await context.reconfigure()).errno, 'EBUSY', 'while the file is open');
    t.is((await context.set('rw')).errno, 'EBUSY', 'the context is used up');
    t.is(await client.errno.write({ fd, data: 'x' }), 'ok', 'the file can be written');
  }
  await client.close({ fd });
  await using context = await FsContext.pick(client, fuse.path);
  await context.set('mand');
  t.is((await context.reconfigure()).errno, 'EINVAL', 'mandatory locks are not to be had');
  await using another = await FsContext.pick(client, fuse.path);
  await another.set('ro');
  t.deepEqual(await another.reconfigure(), DONE, 'when it is closed');
  t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }), 'EROFS');
});

guestTest(
  'a mounted filesystem is picked by its root, and changed only with the capability for it',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using limited = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
    await using inside = await guest.client({ launcher: NAMESPACE });
    await client.mkdir({ path: fuse.backing('d') });
    const pick = (who: typeof client, path: string): Promise<string> => who.errno.fspick({ path });
    t.is(await pick(client, fuse.file('d')), 'EINVAL', 'a directory below the root');
    t.is(await pick(client, fuse.file('none')), 'ENOENT', 'a name that there is not');
    t.is(await pick(limited, fuse.path), 'EPERM', 'without CAP_SYS_ADMIN');
    await using context = await FsContext.pick(inside, fuse.path);
    t.deepEqual(await context.set('ro'), DONE, 'root of another namespace may ask');
    t.is((await context.reconfigure()).errno, 'EPERM', 'and gets nothing');
    t.is(await client.errno.mkdir({ path: fuse.file('e') }), 'ok', 'it can be written');
  },
);
