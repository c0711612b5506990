import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openWithId } from '../lib/registration.ts';
import { REGISTRAR, registrarLauncher } from '../lib/registrar.ts';
import { Witness } from '../lib/witness.ts';

/** Registers a file through the server's device, as the client that it is. */
async function registerBy(registrar: Client, fuse: FuseMount, path: string): Promise<number> {
  const device = await fuse.server.lendDevice(registrar);
  const fd = await registrar.open({ path, flags: 'O_RDWR' });
  const arg = backingMap(fd);
  const { ret } = await registrar.ioctl({ fd: device, request: DeviceIoctl.BACKING_OPEN, arg });
  await registrar.close({ fd });
  await registrar.close({ fd: device });
  return ret;
}

/** How the one who registered can lose what it had then. */
const ENDS: Readonly<Record<string, (registrar: Client) => Promise<unknown>>> = {
  'has dropped its privileges': (registrar) => registrar.setCredentials({ uid: 2000, gid: 2000 }),
  'is gone': (registrar) => registrar.kill(),
};

for (const [what, end] of Object.entries(ENDS)) {
  guestTest(
    `the rights of the registration last though who registered ${what} (F1, F2)`,
    async (t, guest) => {
      await using witness = await Witness.mount(guest);
      const { upper, lower } = witness;
      await using client = await guest.client();
      await using registrar = await guest.client({
        launcher: registrarLauncher(['sys_ptrace', 'setuid', 'setgid']),
      });
      await client.writeFile({ path: upper.backing('f'), data: 'backing', mode: 0o600 });
      const id = await registerBy(registrar, upper, lower.file('f'));
      await end(registrar);

      const after = await lower.position();
      const fd = await openWithId(guest, client, { fuse: upper, id });
      t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
      t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
      const requests = await lower.requests({ opcode: ['READ', 'WRITE'], after });
      t.deepEqual(
        requests.map(({ opcode, uid, gid }) => [opcode, uid, gid]),
        [
          ['READ', REGISTRAR.uid, REGISTRAR.gid],
          ['WRITE', REGISTRAR.uid, REGISTRAR.gid],
        ],
      );
      await client.close({ fd });
      t.deepEqual(await upper.dataRequests(), []);
    },
  );
}

guestTest(
  'who is root in a user namespace of its own may mount, but not register (B5, F1)',
  async (t, guest) => {
    await using root = await guest.client();
    const served = await guest.directory('ext4', 'root');
    await root.writeFile({ path: `${served}/f`, data: 'backing' });
    await using server = await guest.server({
      launcher: ['unshare', '--user', '--map-root-user', '--mount'],
    });
    const mountPoint = await guest.directory('area', 'fuse');
    await server.mount({
      mountPoint,
      serve: { root: served, passthrough: 'off', abi: guest.expected.abi, init: { maxStackDepth: 1 } },
    });
    t.is(await server.registerErrno({ path: `${served}/f`, flags: 'O_RDWR' }), guest.expected.unprivileged);
    await using privileged = await guest.mountFuse({ root: served, passthrough: 'off' });
    const control = { path: privileged.backing('f'), flags: 'O_RDWR' };
    t.is(await privileged.server.registerErrno(control), 'ok', 'root of the machine may');
  },
);

guestTest(
  'a backing file is served from a mount that is detached, and from a mount namespace that is gone (F13)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using elsewhere = await guest.client({ launcher: ['unshare', '--mount'] });
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    const bound = await guest.directory('tmpfs', 'source');
    await client.writeFile({ path: `${bound}/b`, data: 'backing' });
    const target = await guest.directory('area', 'private');
    await elsewhere.mount({ source: bound, target, type: 'none', flags: 'MS_BIND' });
    t.is(await client.errno.stat({ path: `${target}/b` }), 'ENOENT', 'a mount that nobody else sees');
    const id = await registerBy(elsewhere, fuse, `${target}/b`);
    const spare = await registerBy(elsewhere, fuse, `${target}/b`);
    const fd = await openWithId(guest, client, { fuse, id });
    t.is(await elsewhere.umount2({ target, flags: 'MNT_DETACH' }), 0);
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing', 'detached');
    await elsewhere.kill();
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7, 'without its namespace');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    const again = await openWithId(guest, client, { fuse, id: spare });
    t.is(text(await client.pread({ fd: again, count: 7, offset: 0 })), 'written', 'opened only now');
    await client.close({ fd: again });
    if (guest.expected.hasClose) {
      for (const one of [id, spare]) t.is(await fuse.server.closeBacking(one), 'ok');
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('write(2) to the device registers nothing, whatever the bytes say (F15)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  for (const arg of [backingMap(0), backingMap(1), backingMap(16)]) {
    t.not(await fuse.server.writeDevice(arg), 'ok', 'the argument of BACKING_OPEN is no answer');
  }
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  t.is(id, 1, 'the first registration there is');
});

/** Attributes of the inode by which even root is kept from writing, and what native I/O on ext4 does then. */
for (const [attribute, name] of [
  ['i', 'immutable'],
  ['a', 'append-only'],
] as const) {
  guestTest(
    `a backing file that becomes ${name} refuses what it refuses on its own path (F9)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse();
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
      const through = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
      await guest.run(['chattr', `+${attribute}`, fuse.backing('f')]);
      try {
        const answers = async (fd: number): Promise<string[]> => [
          await client.errno.pread({ fd, count: 7, offset: 0 }),
          await client.errno.pwrite({ fd, data: 'B', offset: 0 }),
          await client.errno.pwritev2({ fd, chunks: [new Uint8Array(1)], offset: 0, flags: 'RWF_APPEND' }),
        ];
        t.deepEqual(await answers(through), await answers(native), 'read, write, append');
        const open = async (path: string): Promise<string[]> => [
          await client.errno.open({ path, flags: 'O_RDONLY' }),
          await client.errno.open({ path, flags: 'O_RDWR' }),
          await client.errno.unlink({ path }),
        ];
        t.deepEqual(
          await open(fuse.file('f')),
          await open(fuse.backing('f')),
          'open to read, to write, unlink',
        );
        t.deepEqual(await open(fuse.file('f')), ['ok', 'EPERM', 'EPERM']);
      } finally {
        await guest.run(['chattr', `-${attribute}`, fuse.backing('f')]);
      }
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}
