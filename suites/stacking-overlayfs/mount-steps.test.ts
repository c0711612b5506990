import type { BatchCall, Client } from '../lib/client.ts';
import { DONE, FsContext, switchReadOnly, SWITCHED, type Step } from '../lib/fs-context.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** An overlay mounted and changed step by step (fsopen(2), fspick(2)): what is refused, and what the kernel says of it. */

const NAMESPACE = ['unshare', '--user', '--map-root-user', '--mount'];
/** OVL_MAX_STACK, fs/overlayfs/params.h. */
const MOST_LAYERS = 500;

const refused = (message: string): Step => ({ errno: 'EINVAL', said: [`e overlay: ${message}`] });

function needsContexts(guest: TestGuest): void {
  guest.needs(guest.expected.overlaysWithDataLayers, 'contexts of overlays that say what is wrong');
}

/** By option, what it comes to in a context that has had those before it. */
async function outcomes(
  client: Client,
  options: readonly string[],
): Promise<{ readonly last: Step; readonly before: readonly Step[] }> {
  await using context = await FsContext.open(client, 'overlay');
  const steps: Step[] = [];
  for (const option of options) steps.push(await context.set(option));
  return { last: steps.pop() ?? DONE, before: steps };
}

guestTest('of a layer that an overlay cannot have the kernel says why', async (t, guest) => {
  needsContexts(guest);
  await using client = await guest.client();
  const [one = '', other = ''] = await layersOf(guest, 2);
  const bound = await guest.directory('area', 'bound');
  await fill(client, one, ['f', 'd/']);
  await client.mount({ source: one, target: bound, type: 'none', flags: 'MS_BIND' });
  const flags = 'MS_REMOUNT|MS_BIND|MS_RDONLY';
  await client.mount({ source: '', target: bound, type: '', flags });
  await using overlay = await guest.mountOverlay({ lower: other, ...(await upperOn(guest)) }, client);
  const late = 'lowerdir+ and datadir+ cannot follow lowerdir';
  const rows: readonly (readonly [readonly string[], Step])[] = [
    [[`upperdir=${one}/f`], refused(`${one}/f is not a directory`)],
    [[`workdir=${one}/f`], refused(`${one}/f is not a directory`)],
    [[`lowerdir+=${one}/f`], refused(`${one}/f is not a directory`)],
    [[`lowerdir=${one}:${one}/f`], refused(`${one}/f is not a directory`)],
    [[`upperdir=${bound}`], refused(`filesystem on ${bound} is read-only`)],
    [[`lowerdir+=${bound}`], DONE],
    [[`upperdir=${overlay.path}`], refused(`filesystem on ${overlay.path} not supported as upperdir`)],
    [[`lowerdir+=${overlay.path}`], DONE],
    // Whose names are compared in a way of their own.
    [['lowerdir+=/proc/sys/kernel'], refused('filesystem on /proc/sys/kernel not supported')],
    [['upperdir=/proc/sys/kernel'], refused('filesystem on /proc/sys/kernel not supported')],
    [[`lowerdir=${one}`, `lowerdir+=${other}`], refused(late)],
    [[`lowerdir=${one}`, `datadir+=${other}`], refused(late)],
    [[`datadir+=${one}`, `lowerdir+=${other}`], refused('regular lower layers cannot follow data layers')],
    [[`lowerdir=${one}`, 'lowerdir=', `lowerdir+=${other}`], DONE],
    [[`lowerdir+=${one}`, `lowerdir=${other}`], DONE],
    [['lowerdir+='], refused("Bad value for 'lowerdir+'")],
    [['redirect_dir=sideways'], refused("Bad value for 'redirect_dir'")],
    [['userxattr=on'], refused("Unexpected value for 'userxattr'")],
    [['no_such_option'], refused("Unknown parameter 'no_such_option'")],
  ];
  for (const [options, step] of rows) {
    const { last, before } = await outcomes(client, options);
    for (const [at, each] of before.entries()) t.deepEqual(each, DONE, `${options[at]}, to begin with`);
    t.deepEqual(last, step, options.join(', then '));
  }
  await client.umount2({ target: bound });
});

guestTest(
  'an upper layer that became read-only after it was named is refused when the overlay is made',
  async (t, guest) => {
    needsContexts(guest);
    await using client = await guest.client();
    const [lower = '', above = ''] = await layersOf(guest, 2);
    await fill(client, above, ['upper/', 'work/']);
    const bound = await guest.directory('area', 'bound');
    await client.mount({ source: above, target: bound, type: 'none', flags: 'MS_BIND' });
    const remount = (flags: string) => client.mount({ source: '', target: bound, type: '', flags });
    for (const [readOnly, errno] of [
      [true, 'EINVAL'],
      [false, 'ok'],
    ] as const) {
      await using context = await FsContext.open(client, 'overlay');
      for (const option of [`lowerdir=${lower}`, `upperdir=${bound}/upper`, `workdir=${bound}/work`]) {
        t.deepEqual(await context.set(option), DONE, option);
      }
      if (readOnly) await remount('MS_REMOUNT|MS_BIND|MS_RDONLY');
      t.is((await context.create()).errno, errno, readOnly ? 'read-only by then' : 'as it was');
      if (readOnly) await remount('MS_REMOUNT|MS_BIND');
    }
    await client.umount2({ target: bound });
  },
);

guestTest('an overlay has as many lower layers as it may have, and no more', async (t, guest) => {
  needsContexts(guest);
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layer');
  await using context = await FsContext.open(client, 'overlay');
  const add = { fd: context.fd, command: 'FSCONFIG_SET_STRING', key: 'lowerdir+', value: at };
  const calls = Array.from({ length: MOST_LAYERS }, (): BatchCall => ({ call: 'fsconfig', args: add }));
  const results = await client.batch({ calls });
  t.true(
    results.every((result) => !('errno' in result)),
    `${MOST_LAYERS} layers`,
  );
  t.deepEqual(
    await context.set(`lowerdir+=${at}`),
    refused(`too many lower directories, limit is ${MOST_LAYERS}`),
  );
  t.is((await context.create()).errno, 'ELOOP', 'and they are not the same directory');
});

guestTest('a context is used in the user namespace that it was opened in', async (t, guest) => {
  needsContexts(guest);
  await using client = await guest.client();
  await using inside = await guest.client({ launcher: NAMESPACE });
  const [one = '', other = ''] = await layersOf(guest, 2);
  await using context = await FsContext.open(inside, 'overlay');
  for (const option of [`lowerdir=${one}:${other}`]) t.deepEqual(await context.set(option), DONE, option);
  const fd = await client.adoptFd({ pid: inside.pid, fd: context.fd });
  const command = 'FSCONFIG_CMD_CREATE';
  t.is(await client.errno.fsconfig({ fd, command }), 'EIO', 'root of the namespace outside');
  await client.close({ fd });
  await using another = await FsContext.open(inside, 'overlay');
  await another.set(`lowerdir=${one}:${other}`);
  t.deepEqual(await another.create(), DONE, 'root of the namespace itself');
});

/** None of which can be changed, as they are or otherwise. */
const MOUNTED = [
  'lowerdir=/',
  'lowerdir+=/',
  'upperdir=/',
  'workdir=/',
  'redirect_dir=on',
  'index=off',
  'metacopy=on',
  'volatile',
  'default_permissions',
  'redirect_dir=sideways',
  'no_such_option',
];

guestTest('no option of a mounted overlay can be changed but whether it is read-only', async (t, guest) => {
  needsContexts(guest);
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
  const before = await overlayOptionsAt(client, overlay.path);
  await using context = await FsContext.pick(client, overlay.path);
  for (const option of MOUNTED) {
    t.deepEqual(await context.set(option), refused('No changes allowed in reconfigure'), option);
  }
  t.deepEqual(await context.reconfigure(), DONE, 'with none of them');
  t.deepEqual(await overlayOptionsAt(client, overlay.path), before, 'it is as it was');
  const write = () => client.errno.mkdir({ path: overlay.file('d') });
  t.deepEqual(await switchReadOnly(context, write), SWITCHED, 'the context serves again');
  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' });
  await context.set('ro');
  t.is((await context.reconfigure()).errno, 'EBUSY', 'while a file is open for writing');
  await client.close({ fd });
  t.is((await context.reconfigure()).errno, 'EBUSY', 'the context is used up');
  await using another = await FsContext.pick(client, overlay.path);
  await another.set('ro');
  t.deepEqual(await another.reconfigure(), DONE, 'when it is closed');
});

guestTest('an overlay without an upper layer stays read-only', async (t, guest) => {
  needsContexts(guest);
  await using client = await guest.client();
  await using overlay = await guest.mountOverlay({ lower: await layersOf(guest, 2) }, client);
  await using context = await FsContext.pick(client, overlay.path);
  t.deepEqual(await context.set('rw'), DONE);
  t.is((await context.reconfigure()).errno, 'EROFS');
  t.is((await context.set('ro')).errno, 'EBUSY', 'the context is used up');
  await using another = await FsContext.pick(client, overlay.path);
  t.deepEqual(await another.set('ro'), DONE);
  t.deepEqual(await another.reconfigure(), DONE, 'which it is already');
  t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS');
});

guestTest(
  'an overlay that becomes read-only has its upper filesystem written, unless it is volatile',
  async (t, guest) => {
    await using client = await guest.client();
    const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['WRITEBACK_CACHE'] } as const;
    for (const [options, flags, expected] of [
      [undefined, 'MS_REMOUNT|MS_RDONLY', ['WRITE']],
      ['volatile', 'MS_REMOUNT|MS_RDONLY', []],
      // It is written when it can be written no more, and only then.
      [undefined, 'MS_REMOUNT', []],
    ] as const) {
      const readOnly = flags.includes('MS_RDONLY');
      const what = `${options ?? 'without an option'}, ${readOnly ? 'read-only' : 'writable as before'}`;
      await using stack = await upperOnFuse(guest, client, options, { init });
      const { overlay, fuse } = stack;
      // Beside the overlay: what is open for writing there keeps it from becoming read-only.
      const fd = await client.open({ path: fuse.file('beside'), flags: 'O_RDWR|O_CREAT' });
      const after = await fuse.position();
      await client.write({ fd, data: 'not written yet' });
      const remount = { source: 'overlay', target: overlay.path, type: 'overlay', flags };
      t.is(await client.errno.mount(remount), 'ok', what);
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), expected, what);
      const again = await fuse.position();
      if (readOnly) {
        t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS', what);
        await client.write({ fd, data: ', and more' });
        t.is(await client.errno.mount(remount), 'ok', `${what} already`);
        t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after: again }), [], `${what} already`);
      }
      await client.close({ fd });
      const closed = await fuse.opcodes({ opcode: 'WRITE', after: again });
      t.deepEqual(closed, ['WRITE'], `${what}: when it is closed`);
    }
  },
);
