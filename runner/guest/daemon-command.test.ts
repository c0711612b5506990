import test from 'ava';
import { daemonCommand } from './daemon-command.ts';

test('daemon command: only an emulated guest has its JavaScript interpreted', (t) => {
  t.is(daemonCommand('kvm', '/run/d.js', 'agent'), "node '/run/d.js' agent");
  t.is(
    daemonCommand('tcg', '/run/d.js', 'agent', '"$port"'),
    `node --jitless --single-threaded '/run/d.js' agent "$port"`,
  );
});
