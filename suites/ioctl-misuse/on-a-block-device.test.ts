import { text } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { answerRequest, initBody, nextRequest } from '../lib/raw-server.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** FUSE as the filesystem of a block device (`fuseblk`), whose server answers DESTROY before the device is free. */

const NEEDED = 'rootmode=40000,user_id=0,group_id=0';
const ENOSYS = -38;

/** The machine's spare disk. Nothing is written to it. */
async function blockDevice(guest: TestGuest): Promise<string> {
  guest.needsBuilt(await guest.hasFilesystem('fuseblk'), 'fuseblk');
  const { device } = await guest.lease.call('spare-disk.find', {});
  return device ?? guest.skip('this machine has no disk to spare');
}

interface OnDevice extends AsyncDisposable {
  readonly mount: StackedMount;
  /** A client that reads and answers requests. */
  readonly server: Client;
  readonly device: number;
}

function openDevice(server: Client): Promise<number> {
  return server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
}

/** Answers INIT. */
async function initialize(server: Client, device: number): Promise<void> {
  const request = await nextRequest(server, device);
  if (request.opcode !== Opcode.INIT) throw new Error(`opcode ${request.opcode} in place of INIT`);
  await answerRequest(server, device, { unique: request.unique, body: initBody(31) });
}

async function mountOn(guest: TestGuest, source: string, more = ''): Promise<OnDevice> {
  const server = await guest.client();
  const device = await openDevice(server);
  const mounter = await guest.client();
  const fd = await mounter.adoptFd({ pid: server.pid, fd: device });
  const options = `fd=${fd},${NEEDED}${more}`;
  const mount = await guest.mount({ source, type: 'fuseblk', options }, mounter);
  await mounter.close({ fd });
  await initialize(server, device);
  return {
    mount,
    server,
    device,
    // Without a server nobody waits for an answer.
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await mount[Symbol.asyncDispose]();
      await mounter[Symbol.asyncDispose]();
    },
  };
}

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
