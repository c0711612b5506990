import { eventually } from '../lib/eventually.ts';
import { Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { lendDevice, polled } from '../lib/lent-device.ts';
import { answerRequest, INTERRUPT, nextRequest } from '../lib/raw-server.ts';

/** Signals to a server that waits and to a caller that closes; and what the end of a connection finishes and says. */

const [EIO, ENOSYS] = [-5, -38];
const ROOM = 2 ** 21;

guestTest(
  'a server that is stopped while it waits for a request reads it when it goes on',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await lendDevice(guest, stack, { passthrough: 'off' });
    const { fuse, client, server, device } = on;
    await on.takeOver();
    await server.fcntl({ fd: device, cmd: 'F_SETFL', arg: 0 });
    const outcome = server.read({ fd: device, count: ROOM }).then(
      (raw) => ({ raw, errno: 'ok' }),
      (error: unknown) => ({ raw: new Uint8Array(), errno: String(error) }),
    );
    const waits = await eventually(
      () => guest.where(server.pid),
      (where) => where.includes('fuse_dev_do_read'),
    );
    t.regex(waits, /fuse_dev_do_read/, 'it waits for a request');
    await server.kill('SIGSTOP');
    const stopped = await eventually(
      () => guest.where(server.pid),
      (where) => !where.includes('fuse_dev_do_read'),
    );
    t.notRegex(stopped, /fuse_dev_do_read/, 'it is stopped');
    await server.kill('SIGCONT');
    const asking = client.errno.stat({ path: fuse.file('none') });
    asking.catch(() => undefined);
    const { raw, errno } = await outcome;
    t.is(errno, 'ok', 'the read goes on');
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    t.is(view.getUint32(4, true), Opcode.LOOKUP, 'and gives the request');
    const answer = { unique: view.getBigUint64(8, true), error: EIO };
    t.is(await answerRequest(server, device, answer), 'ok');
    t.is(await asking, 'EIO');
  },
);

guestTest(
  'a signal during a close is told to the server that has its FLUSH, and the close waits for the answer (H10)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await lendDevice(guest, stack, { passthrough: 'off' });
    const { fuse, client, server, device } = on;
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await on.takeOver();
    const closing = client.errno.close({ fd });
    closing.catch(() => undefined);
    const flush = await nextRequest(server, device);
    t.is(flush.opcode, Opcode.FLUSH);
    t.is(await server.poll({ fd: device }), 'out', 'nothing more to be read');
    const stopped = client.kill('SIGSTOP');
    t.is(await polled(on, 'in|out'), 'in|out', 'the signal is told');
    const interrupt = await nextRequest(server, device);
    t.is(interrupt.opcode, Opcode.INTERRUPT);
    t.is(interrupt.unique, flush.unique | INTERRUPT, 'of the FLUSH');
    t.is(await fuse.waiting(), 1, 'which waits for its answer still');
    t.is(await answerRequest(server, device, { unique: flush.unique }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await closing, 'ok');
    await fuse.abort();
  },
);

guestTest(
  'whoever is killed waits for no request that nobody has read, also where INTERRUPT is not known (H10)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await lendDevice(guest, stack, { passthrough: 'off' });
    const { fuse, client, server, device } = on;
    const victim = stack.use(await guest.client());
    await on.takeOver();
    const asking = client.errno.stat({ path: fuse.file('none') });
    asking.catch(() => undefined);
    const request = await nextRequest(server, device);
    const stopped = client.kill('SIGSTOP');
    t.is(await polled(on, 'in|out'), 'in|out', 'an INTERRUPT');
    const { unique } = await nextRequest(server, device);
    t.is(unique, request.unique | INTERRUPT);
    t.is(await answerRequest(server, device, { unique, error: ENOSYS }), 'ok', 'which is not known');
    t.is(await answerRequest(server, device, { unique: request.unique, error: EIO }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');

    // Needs no lock that another call may have.
    victim.statfs({ path: fuse.path }).catch(() => undefined);
    t.is(await polled(on, 'in|out'), 'in|out', 'a request that waits to be read');
    const gone = victim.kill('SIGKILL');
    gone.catch(() => undefined);
    t.is(await fuse.untilWaiting(0), 0, 'nobody waits for it any more');
    t.like(await gone, { signal: 'SIGKILL' });
    t.is(await server.poll({ fd: device }), 'out', 'and it is not to be read');
  },
);

guestTest(
  'what waits in the kernel because max_background is 0 ends with the connection (H3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ openFlags: OpenFlag.NOFLUSH });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const path = `/sys/fs/fuse/connections/${fuse.connection}/max_background`;
    t.is(await client.errno.writeFile({ path, data: '0', flags: 'O_WRONLY' }), 'ok');
    t.is(await client.errno.close({ fd }), 'ok', 'a close waits for nothing');
    t.is(await fuse.waiting(), 1, 'its RELEASE waits');
    // What the kernel sends now comes after every request that it would send.
    await client.statfs({ path: fuse.path });
    t.deepEqual(await fuse.opcodes('RELEASE'), [], 'and is not sent');
    await fuse.abort();
    t.is(await fuse.untilWaiting(0), 0, 'it does not wait any more');
    t.is(await fuse.unmount(), 'ok');
  },
);

guestTest(
  'a connection whose INIT was refused says when it is over that it is over (B25)',
  async (t, guest) => {
    const refuse = { match: { opcode: 'INIT' }, action: { do: 'error', errno: 'EIO' } } as const;
    for (const ends of ['aborted', 'left by its server'] as const) {
      await using fuse = await guest.mountFuse({ rules: [refuse], waitForInit: false });
      await using client = await guest.client();
      await fuse.waitFor('INIT', 'answered');
      t.is(await client.errno.statfs({ path: fuse.path }), 'ECONNREFUSED', 'before it is over');
      if (ends === 'aborted') await fuse.abort();
      else await fuse.server.kill('SIGKILL');
      t.is(await client.errno.statfs({ path: fuse.path }), 'ENOTCONN', ends);
    }
  },
);
