import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openWithId } from '../lib/registration.ts';

/** Trips to the guest in which a call that waits for nothing certainly comes to its end. */
const PATIENCE = 60;

guestTest(
  'a splice that waits for its pipe does not keep others from writing the passthrough file (A22, K11)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using holder = await guest.client();
    await using splicer = await guest.client();
    await using writer = await guest.client();
    for (const name of ['f', 'served'])
      await holder.writeFile({ path: fuse.backing(name), data: '........' });
    const register = () => fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
    const first = await register();
    const splicing = await openWithId(guest, splicer, { fuse, id: first });
    const second = guest.expected.idsAreReusable ? first : await register();
    const writing = await openWithId(guest, writer, { fuse, id: second });

    // Who splices to a file that the server writes keeps the pipe locked until the answer comes.
    await fuse.answerOpen(
      { opcode: 'OPEN', path: '/served' },
      { openFlags: OpenFlag.DIRECT_IO, backingId: 0 },
    );
    const served = await holder.open({ path: fuse.file('served'), flags: 'O_RDWR' });
    const [fdIn, into] = await holder.pipe({});
    await holder.write({ fd: into, data: 'onetwo' });
    const hold = await fuse.hold('WRITE');
    const held = holder.splice({ fdIn, fdOut: served, offOut: 0, length: 3 });
    held.catch(() => undefined);
    const request = await hold.arrived();

    const shared = await splicer.adoptFd({ pid: holder.pid, fd: fdIn });
    const waiting = splicer.splice({ fdIn: shared, fdOut: splicing, offOut: 0, length: 3 });
    waiting.catch(() => undefined);
    const stack = await eventually(
      () => guest.where(splicer.pid),
      (where) => where.includes('pipe_lock') || where.includes('splice_write'),
    );
    t.regex(stack, /pipe_lock|splice_write/, 'the splice to the passthrough file waits for the pipe');
    let written = false;
    const write = writer.pwrite({ fd: writing, data: 'xyz', offset: 4 }).then(() => {
      written = true;
    });
    write.catch(() => undefined);
    const inTime = await eventually(
      async () => {
        await guest.where(writer.pid);
        return written;
      },
      (done) => done,
      PATIENCE,
    );
    await hold.release(request);
    await hold.stop();
    await Promise.all([held, waiting, write]);
    t.is(text(await holder.readFile({ path: fuse.backing('f') })), 'two.xyz.');
    t.is(text(await holder.readFile({ path: fuse.backing('served') })), 'one.....');
    await writer.close({ fd: writing });
    for (const fd of [shared, splicing]) await splicer.close({ fd });
    t.true(inTime, 'a write waits for the lock that the waiting splice has taken first');
  },
);
