import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';

const F_WRLCK = 1;
const F_UNLCK = 2;

guestTest(
  'a lease on the FUSE file is broken by another open of it, not by its I/O (A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using holder = await guest.client();
    await using other = await guest.client();
    await holder.writeFile({ path: fuse.backing('f'), data: 'backing' });
    // A lease that is broken is told by this signal, which would end the process.
    await holder.signal({ signal: 'SIGIO', disposition: 'ignore' });
    const fd = await holder.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await holder.fcntl({ fd, cmd: 'F_SETLEASE', arg: F_WRLCK });
    await holder.pwrite({ fd, data: 'written', offset: 0 });
    t.is(text(await holder.pread({ fd, count: 7, offset: 0 })), 'written');
    t.is(await holder.fcntl({ fd, cmd: 'F_GETLEASE' }), F_WRLCK, 'after I/O');

    const opening = other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const lease = await eventually(
      () => holder.fcntl({ fd, cmd: 'F_GETLEASE' }),
      (type) => type !== F_WRLCK,
    );
    t.not(lease, F_WRLCK, 'it is being broken');
    await holder.fcntl({ fd, cmd: 'F_SETLEASE', arg: F_UNLCK });
    const second = await opening;
    t.is(text(await other.pread({ fd: second, count: 7, offset: 0 })), 'written');
    await other.close({ fd: second });
    await holder.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** A lock of the first client that keeps the second one out, by kind. */
const LOCKS: Readonly<Record<string, (client: Client, fd: number, lock: boolean) => Promise<string>>> = {
  flock: (client, fd, lock) => client.errno.flock({ fd, operation: lock ? 'LOCK_EX|LOCK_NB' : 'LOCK_UN' }),
  'a POSIX lock': (client, fd, lock) => {
    return client.errno.setlk({ fd, type: lock ? 'F_WRLCK' : 'F_UNLCK', start: 0, length: 10 });
  },
  'an OFD lock': (client, fd, lock) => {
    return client.errno.setlk({ fd, type: lock ? 'F_WRLCK' : 'F_UNLCK', start: 0, length: 10, ofd: true });
  },
};

for (const where of ['the kernel', 'the server'] as const) {
  guestTest(
    `locks kept by ${where} exclude each other on FUSE, and mean nothing to I/O and to the backing file (A44)`,
    async (t, guest) => {
      const addFlags = where === 'the server' ? (['POSIX_LOCKS', 'FLOCK_LOCKS'] as const) : [];
      await using fuse = await guest.mountFuse({ init: { addFlags } });
      await using one = await guest.client();
      await using other = await guest.client();
      await one.writeFile({ path: fuse.backing('f'), data: 'backing' });
      const first = await one.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const second = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const native = await other.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
      for (const [what, lock] of Object.entries(LOCKS)) {
        const after = await fuse.position();
        t.is(await lock(one, first, true), 'ok', what);
        t.is(await lock(other, second, true), 'EAGAIN', `${what}: another client`);
        t.is(await lock(other, native, true), 'ok', `${what}: on the backing file`);
        await lock(other, native, false);
        t.is(await other.pwrite({ fd: second, data: 'written', offset: 0 }), 7, `${what}: I/O goes on`);
        t.is(text(await one.pread({ fd: first, count: 7, offset: 0 })), 'written');
        t.is(await lock(one, first, false), 'ok', what);
        t.is(await lock(other, second, true), 'ok', `${what}: after it was given up`);
        await lock(other, second, false);
        const asked = await fuse.opcodes({ opcode: ['SETLK', 'SETLKW'], after });
        t.is(asked.length > 0, where === 'the server', `${what}: who keeps it`);
      }
      await one.close({ fd: first });
      for (const fd of [second, native]) await other.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest(
  '/proc/PID/fdinfo tells position, flags, mount and locks of the FUSE file (A19, A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_APPEND' });
    await client.read({ fd, count: 3 });
    await client.flock({ fd, operation: 'LOCK_EX' });
    const info = text(await client.readFile({ path: `/proc/${client.pid}/fdinfo/${fd}` }));
    const { ino } = await client.stat({ path: fuse.file('f') });
    t.regex(info, /^pos:\t3$/m);
    t.regex(info, /^flags:\t0102002$/m, 'O_RDWR, O_APPEND, O_LARGEFILE');
    t.regex(info, new RegExp(`^lock:\\t1: FLOCK {2}ADVISORY {2}WRITE ${client.pid} .*:${ino} 0 EOF$`, 'm'));
    const target = await client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
    t.is(target, fuse.file('f'), 'the path is that of FUSE');
    await client.close({ fd });
  },
);

guestTest(
  'a backing file is open in the kernel only: no descriptor of the server, or of the client, is it (C16)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const { expected } = guest;
    const path = `${await guest.directory('tmpfs')}/backing`;
    await client.writeFile({ path, data: 'backing' });
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    const backingId = await fuse.server.registerBacking({ path, flags: 'O_RDWR' });
    await fuse.answerOpen('OPEN', { openFlags: expected.passthroughFlag, backingId }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');

    for (const pid of [fuse.server.pid, client.pid]) {
      const names = await client.readdir({ path: `/proc/${pid}/fd` });
      const targets: string[] = [];
      // Descriptors of a process that runs may be gone when it is their turn.
      for (const name of names) {
        const link = `/proc/${pid}/fd/${name}`;
        if ((await client.errno.readlink({ path: link })) === 'ok')
          targets.push(await client.readlink({ path: link }).catch(() => ''));
      }
      t.false(targets.includes(path), `process ${pid}`);
    }
    t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'though it is open');
    await client.close({ fd });
  },
);
