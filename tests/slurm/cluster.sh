#!/usr/bin/env bash
# cluster.sh up|down FOLDER [PORT]: a real SLURM of one node on loopback, all of it in FOLDER.
# It needs Debian's slurmctld, slurmd, slurm-client and munge, and root; afterwards: . FOLDER/env.sh
set -euo pipefail
state=$(realpath -m "$2") port=${3:-28817} host=$(hostname -s)
export SLURM_CONF="$state/slurm.conf" PATH=$PATH:/usr/sbin:/sbin

down() { # by the numbers that the daemons wrote, never by name
  timeout 20 scancel -u "$(id -un)" 2>/dev/null || true
  for name in slurmd slurmctld munged; do
    [ -s "$state/run/$name.pid" ] || continue
    pid=$(cat "$state/run/$name.pid")
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || continue
    kill "$pid"
    for _ in $(seq 60); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
    kill -9 "$pid" 2>/dev/null || true
  done
}
[ "$1" = up ] || { down; exit 0; }

mkdir -p "$state"/{run,log,ctld,slurmd,munge}
chmod 755 "$state" "$state/run" "$state/log"
chmod 700 "$state/munge"
# Controller and clients must agree that this machine's name is loopback.
getent ahostsv4 "$host" | awk '{print $1}' | grep -q '^127\.' || echo "127.0.0.1 $host" >>/etc/hosts
(umask 077; head -c 1024 /dev/urandom >"$state/munge/munge.key")
cat >"$SLURM_CONF" <<CONF
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SrunPortRange=$((port + 10))-$((port + 200))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$state/run/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/slurmd
SlurmctldPidFile=$state/run/slurmctld.pid
SlurmdPidFile=$state/run/slurmd.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.log
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
CompleteWait=0
SchedulerParameters=sched_interval=2,sched_min_interval=200000,bf_interval=2,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 NodeHostname=$host CPUs=4 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=spot Nodes=$host MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes=$host MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
CONF
printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n' >"$state/cgroup.conf"
echo "export SLURM_CONF=$SLURM_CONF" >"$state/env.sh"
munged --socket="$state/run/munge.socket" --key-file="$state/munge/munge.key" \
  --pid-file="$state/run/munged.pid" --log-file="$state/log/munged.log" \
  --seed-file="$state/munge/munged.seed" --num-threads=2 --force 2>"$state/log/munged.err"
slurmctld -i -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 60); do
  case $(sinfo -h -p main -o %T 2>/dev/null || true) in
    idle) exit 0 ;;
    down* | unk* | drain*) scontrol update nodename="$host" state=resume 2>/dev/null || true ;;
  esac
  sleep 0.5
done
tail -n 20 "$state"/log/*.log >&2
down
exit 1
