import { text } from '../lib/bytes.ts';
import { blockDevice, mountOn, NEEDED, openDevice } from '../lib/block-device-mount.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { namespace } from '../lib/idmapped.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { answerRequest, initBody, nextRequest } from '../lib/raw-server.ts';

/** FUSE as the filesystem of a block device (`fuseblk`), whose server answers DESTROY before the device is free. */

const ENOSYS = -38;

/** ok, or EBUSY while a filesystem or somebody else has the device for itself. */
async function exclusiveErrno(client: Client, path: string): Promise<string> {
  try {
    await client.close({ fd: await client.open({ path, flags: 'O_RDONLY|O_EXCL' }) });
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

const SHOWN = 'rw,user_id=0,group_id=0';

/** The option, what is shown, and how large the blocks of a file are of which the server does not say it. */
const BLOCK_SIZES: readonly (readonly [option: string, shown: string, bytes: number])[] = [
  ['', SHOWN, 512],
  [',blksize=512', SHOWN, 512],
  [',blksize=1024', `${SHOWN},blksize=1024`, 1024],
  [',blksize=4096', `${SHOWN},blksize=4096`, 4096],
];

guestTest(
  'a mount of a block device has the block size that it was given, and shows it',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using client = await guest.client();
    for (const [option, shown, size] of BLOCK_SIZES) {
      await using on = await mountOn(guest, source, option);
      t.is((await mountedAt(client, on.mount.path)).options, shown, `with ${option}`);
      const asking = client.stat({ path: on.mount.path });
      asking.catch(() => undefined);
      const request = await nextRequest(on.server, on.device);
      t.is(request.opcode, Opcode.GETATTR);
      const body = new Uint8Array(104);
      new DataView(body.buffer).setUint32(16 + 60, 0o040755, true);
      t.is(await answerRequest(on.server, on.device, { unique: request.unique, body }), 'ok');
      t.is((await asking).blksize, size, `with ${option}`);
    }
  },
);

guestTest(
  'a block device is not mounted with blocks that cannot be, without a FUSE device, or with one in use',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const mounted = await fuse.server.lendDevice(client);
    const rows: readonly (readonly [options: string, what: string])[] = [
      ...[0, 256, 511, 1000, 8192].map((size) => [`fd=FRESH,${NEEDED},blksize=${size}`, 'blocks'] as const),
      [NEEDED, 'no FUSE device'],
      ['fd=FRESH,user_id=0,group_id=0', 'no type of the root'],
      [`fd=FRESH,${NEEDED},mand`, 'mandatory locks'],
      [`fd=${mounted},${NEEDED}`, 'a FUSE device that is mounted'],
    ];
    for (const [options, what] of rows) {
      const fd = await openDevice(client);
      const request = { source, type: 'fuseblk', options: options.replace('FRESH', String(fd)) };
      t.is(await guest.mountErrno(request, client), 'EINVAL', `${what}: ${options}`);
      t.is(await client.poll({ fd }), 'err', `${what}: the FUSE device belongs to no mount`);
      await client.close({ fd });
    }
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents', 'the mount that there was');
    t.is(await exclusiveErrno(client, source), 'ok', 'the block device is free');
    const inside = await guest.client({ launcher: ['unshare', '--user', '--map-root-user', '--mount'] });
    await using _inside = inside;
    const options = `fd=${await openDevice(inside)},${NEEDED}`;
    t.is(
      await guest.mountErrno({ source, type: 'fuseblk', options }, inside),
      'EPERM',
      'in a user namespace, where only plain FUSE may be mounted',
    );
  },
);

guestTest('an unmount of a block device is over when the server has answered DESTROY', async (t, guest) => {
  const source = await blockDevice(guest);
  await using client = await guest.client();
  for (const error of [0, ENOSYS]) {
    await using on = await mountOn(guest, source);
    t.is(await exclusiveErrno(client, source), 'EBUSY', 'while it is mounted');
    const { rdevMajor, rdevMinor } = await client.stat({ path: source });
    const connection = `/sys/fs/fuse/connections/${rdevMajor * 2 ** 20 + rdevMinor}`;
    const waiting = async (): Promise<string> =>
      text(await client.readFile({ path: `${connection}/waiting` })).trim();
    t.is(await waiting(), '0');
    const unmounting = on.mount.unmount();
    const request = await nextRequest(on.server, on.device);
    t.is(request.opcode, Opcode.DESTROY);
    t.is(request.args.length, 0);
    const { uid, gid, pid } = request;
    t.deepEqual({ uid, gid, pid }, { uid: 0, gid: 0, pid: 0 }, 'DESTROY comes in nobody’s name');
    t.is(await waiting(), '1', 'the unmount waits');
    t.is(await exclusiveErrno(client, source), 'EBUSY', 'and has the device');
    t.is(await answerRequest(on.server, on.device, { unique: request.unique, error }), 'ok');
    t.is(await unmounting, 'ok', `DESTROY is answered with ${error}`);
    t.is(await exclusiveErrno(client, source), 'ok', 'the block device is free');
    t.is(await client.errno.stat({ path: connection }), 'ENOENT');
    t.is(await on.server.errno.read({ fd: on.device, count: 2 ** 21 }), 'ENODEV');
  }
});

guestTest('without an answer to INIT no DESTROY is sent for a block device', async (t, guest) => {
  const source = await blockDevice(guest);
  await using client = await guest.client();
  await using server = await guest.client();
  const device = await openDevice(server);
  const options = `fd=${device},${NEEDED}`;
  await using mount = await guest.mount({ source, type: 'fuseblk', options }, server);
  t.is((await nextRequest(server, device)).opcode, Opcode.INIT);
  t.is(await mount.unmount(), 'ok');
  t.is(await server.errno.read({ fd: device, count: 2 ** 21 }), 'ENODEV');
  t.is(await exclusiveErrno(client, source), 'ok', 'the block device is free');
});

/** Answers to INIT that the kernel does not take: of another version of the interface, and an error. */
const REFUSED: Readonly<Record<string, Pick<Parameters<typeof answerRequest>[2], 'body' | 'error'>>> = {
  'another major version': { body: Uint8Array.from(initBody(31), (byte, at) => (at === 0 ? 8 : byte)) },
  'an error': { error: ENOSYS },
};

guestTest(
  'with an answer to INIT that is not taken no DESTROY is sent for a block device',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using client = await guest.client();
    for (const [what, answer] of Object.entries(REFUSED)) {
      await using server = await guest.client();
      const device = await openDevice(server);
      const mounter = await guest.client();
      await using _mounter = mounter;
      const fd = await mounter.adoptFd({ pid: server.pid, fd: device });
      const options = `fd=${fd},${NEEDED}`;
      await using mount = await guest.mount({ source, type: 'fuseblk', options }, mounter);
      await mounter.close({ fd });
      const { opcode, unique } = await nextRequest(server, device);
      t.is(opcode, Opcode.INIT, what);
      t.is(await answerRequest(server, device, { unique, ...answer }), 'ok', what);
      t.is(await client.errno.stat({ path: mount.path }), 'ECONNREFUSED', `${what}: it cannot be used`);
      const unmounting = mount.unmount();
      unmounting.catch(() => undefined);
      const read = await eventually(
        () => server.errno.read({ fd: device, count: 2 ** 21 }),
        (errno) => errno !== 'EAGAIN',
      );
      t.is(read, 'ENODEV', `${what}: the connection ends without another request`);
      if (read !== 'ENODEV') await server.close({ fd: device });
      t.is(await unmounting, 'ok', what);
      t.is(await exclusiveErrno(client, source), 'ok', `${what}: the block device is free`);
    }
  },
);

guestTest(
  'a block device whose mount was forced away is not the filesystem any more that is still in use',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using client = await guest.client();
    await using on = await mountOn(guest, source);
    const fd = await client.open({ path: on.mount.path, flags: 'O_PATH' });
    const { rdevMajor, rdevMinor } = await client.stat({ path: source });
    const bdi = `/sys/class/bdi/${rdevMajor}:${rdevMinor}-fuseblk`;
    t.is(await client.errno.stat({ path: bdi }), 'ok', bdi);
    t.is(await on.mount.unmount('MNT_FORCE'), 'EBUSY', 'in use');
    t.is(await client.errno.stat({ path: bdi }), 'ENOENT', `${bdi} after the forced unmount`);
    t.is(await on.mount.unmount('MNT_DETACH'), 'ok');
    t.is(await on.server.errno.read({ fd: on.device, count: 2 ** 21 }), 'ENODEV');

    // Since Linux 6.5 every filesystem has its device for itself, in use or not.
    const fresh = await openDevice(on.server);
    const request = { source, type: 'fuseblk', options: `fd=${fresh},${NEEDED}` };
    const again = await guest.mountErrno(request, on.server);
    t.regex(again, /^(ok|EBUSY)$/);
    if (again === 'ok') t.is(await on.server.poll({ fd: fresh }), 'err', 'it had a connection of its own');
    await client.close({ fd });
    await on.server.close({ fd: fresh });
    await using last = await mountOn(guest, source);
    t.is(await client.errno.stat({ path: bdi }), 'ok', `${last.mount.path} is a new filesystem`);
  },
);

guestTest(
  'a mount of a block device shows of which kind it is, said by its type or by an option',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using client = await guest.client();
    for (const [type, option, shown] of [
      ['fuseblk', '', 'fuseblk'],
      ['fuseblk', ',subtype=option', 'fuseblk.option'],
      ['fuseblk.kind', '', 'fuseblk.kind'],
    ] as const) {
      await using on = await mountOn(guest, source, option, { type });
      const table = text(await client.readFile({ path: '/proc/self/mounts' })).split('\n');
      const line = table.map((each) => each.split(' ')).find(([, where]) => where === on.mount.path);
      t.is(line?.[2], shown, `type ${type}, options ${option}`);
      const types = text(await client.readFile({ path: '/proc/filesystems' })).split('\n');
      t.true(types.includes('\tfuseblk'), 'of its type it is said that it needs a device');
      t.true(types.includes('nodev\tfuse'), 'of plain FUSE, that it needs none');
    }
  },
);

guestTest(
  'a mount of a block device can be mounted idmapped if its server allows it, as that of plain FUSE (E15)',
  async (t, guest) => {
    const source = await blockDevice(guest);
    await using root = await guest.client();
    await using inside = await namespace(guest, root);
    for (const [what, flags, errno] of [
      ['with ALLOW_IDMAP', ['INIT_EXT', 'ALLOW_IDMAP'], guest.expected.idmappedFuse],
      ['without', ['INIT_EXT'], 'EINVAL'],
    ] as const) {
      await using on = await mountOn(guest, source, ',default_permissions', { flags });
      const target = await guest.directory('area', 'idmapped');
      const how = { source: on.mount.path, target, namespaceOf: inside.pid };
      const mounted = await root.errno.mountIdmapped(how);
      if (mounted === 'ok') await root.umount2({ target });
      t.is(mounted, errno, what);
    }
  },
);
