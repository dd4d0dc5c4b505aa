"""Search hyper-parameters with Optuna: thrifty trains, Optuna chooses, bad trials end early.

Needs `pip install "thrifty[optuna]"`. A trial is short and one seed; what it finds must be measured
anew on seeds that the search has not seen. With a storage (a line below) the search can be stopped
and taken up again, also by several processes.
"""

import optuna

import thrifty

STEPS, STAGES = 600, 3  # a toy's; take 100_000 and 10 for an answer


def objective(trial: optuna.Trial) -> float:
    agent = thrifty.TD3(
        "Pendulum-v1",
        actor_sparsity=trial.suggest_float("actor_sparsity", 0.5, 0.95),
        critic_sparsity=trial.suggest_float("critic_sparsity", 0.5, 0.9),
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        policy_kwargs={"net_arch": [64, 64]},
        learning_starts=100,
        seed=0,
    )
    score = float("-inf")
    for stage in range(1, STAGES + 1):
        agent.learn(STEPS // STAGES)
        score = agent.evaluate(episodes=2).return_mean
        trial.report(score, stage)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("training_flops", agent.ledger["training_flops"]["sparse"])
    return score


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    # storage="sqlite:///search.db", study_name="pendulum", load_if_exists=True,
)
study.optimize(objective, n_trials=4)
print(f"best of {len(study.trials)} trials: return {study.best_value:.0f}")
for name, value in study.best_params.items():
    print(f"  {name} {value:.3g}")
