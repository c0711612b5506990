import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, nextRequest } from '../lib/raw-server.ts';
import { showsAsStopped } from '../lib/where-it-waits.ts';

guestTest(
  'a signal during an open is told to the server as INTERRUPT, and the open still becomes passthrough (H10)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const hold = await fuse.hold('OPEN');
    const opening = client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const request = await hold.arrived();
    // The one signal that interrupts a wait and needs no handler. It takes effect when the open is over.
    const stopped = client.kill('SIGSTOP');
    const interrupt = await fuse.waitFor('INTERRUPT', 'arrived');
    t.is(interrupt.args['unique'], request.unique, 'of this request');
    await hold.stop();
    await hold.release(request);
    await stopped;
    await client.kill('SIGCONT');

    const fd = await opening;
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    t.is(await client.pwrite({ fd, data: 'BACK', offset: 0 }), 4);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
    t.is((await fuse.requests('OPEN')).length, 1, 'it was not opened a second time');
  },
);

guestTest(
  'an open that the server gives up with EINTR after a signal leaves no file and no registration (H10, C15)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const hold = await fuse.hold('OPEN');
    const opening = client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const request = await hold.arrived();
    const stopped = client.kill('SIGSTOP');
    await fuse.waitFor('INTERRUPT', 'arrived');
    await hold.stop();
    await hold.release(request, { do: 'error', errno: 'EINTR' });
    await stopped;
    await client.kill('SIGCONT');
    t.is(await opening, 'EINTR');
    t.deepEqual((await fuse.state()).handles, [], 'nothing is open');
    t.deepEqual(await fuse.opcodes('RELEASE'), [], 'and nothing was to be released');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing', 'the next open');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'an interrupt that the server cannot take yet is sent again, one that it does not know never again (H10)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    /** An open that is interrupted while the server has it. @returns how many INTERRUPTs it got. */
    const interrupted = async (wait: boolean): Promise<number> => {
      const after = await fuse.position();
      const hold = await fuse.hold('OPEN');
      const opening = client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const request = await hold.arrived();
      const stopped = client.kill('SIGSTOP');
      if (wait) await fuse.waitFor({ opcode: 'INTERRUPT', after });
      const again = wait ? (await fuse.requests({ opcode: 'INTERRUPT', after }))[0]?.seq : undefined;
      if (again !== undefined && !done) await fuse.waitFor({ opcode: 'INTERRUPT', after: again }, 'arrived');
      await hold.stop();
      await hold.release(request);
      await stopped;
      await client.kill('SIGCONT');
      await client.close({ fd: await opening });
      return (await fuse.requests({ opcode: 'INTERRUPT', after })).length;
    };
    let done = false;
    await fuse.fail('INTERRUPT', 'EAGAIN', 1);
    t.is(await interrupted(true), 2, 'EAGAIN');
    done = true;
    await fuse.fail('INTERRUPT', 'ENOSYS');
    t.is(await interrupted(true), 1, 'ENOSYS');
    t.is(await interrupted(false), 0, 'the next one');
  },
);

guestTest(
  'a signal that comes before the server has read a request is told to it once it has (H10)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    // The open sends nothing but OPEN.
    await client.stat({ path: fuse.file('f') });
    const hold = await fuse.hold('OPEN');
    await fuse.server.kill('SIGSTOP');
    const opening = client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    opening.catch(() => undefined);
    t.is(await fuse.untilWaiting(1), 1, 'a request is in the queue');
    const stopped = client.kill('SIGSTOP');
    t.true(await showsAsStopped(guest, client), 'the caller has the signal');
    await fuse.server.kill('SIGCONT');
    const request = await hold.arrived();
    const interrupt = await fuse.waitFor('INTERRUPT', 'arrived');
    t.is(interrupt.args['unique'], request.unique, 'of this request');
    await hold.stop();
    await hold.release(request);
    await stopped;
    await client.kill('SIGCONT');
    await client.close({ fd: await opening });
  },
);

guestTest(
  'an interrupt that the server has not read is gone with the answer to its request (H10)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using server = await guest.client();
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    /** What poll says of the device, as soon as it is that. */
    const polled = (events: string): Promise<string> =>
      eventually(
        () => server.poll({ fd: device }),
        (seen) => seen === events,
      );
    const asking = client.errno.stat({ path: fuse.file('none') });
    asking.catch(() => undefined);
    const request = await nextRequest(server, device);
    t.is(request.opcode, Opcode.LOOKUP);
    t.is(await polled('out'), 'out', 'nothing more to be read');
    const stopped = client.kill('SIGSTOP');
    stopped.catch(() => undefined);
    t.is(await polled('in|out'), 'in|out', 'the interrupt waits to be read');
    t.is(await answerRequest(server, device, { ...request, error: -5 }), 'ok');
    t.is(await server.poll({ fd: device }), 'out', 'nothing is left of it');
    t.is(await server.errno.read({ fd: device, count: 2 ** 21 }), 'EAGAIN', 'and no INTERRUPT is read');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');
  },
);
